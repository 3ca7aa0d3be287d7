//go:build !race && !smallmap

// An emulator in user mode tells no address of a bus error, and the race detector faults
// on a stack of its own.

package pmem_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

func TestGuardMakesAnErrorOfAFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	p, err := pmem.Open(path, pmem.Options{Geometry: small().Geometry, Media: pmem.PageCache, MaxSizeBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 4096))
	for _, touch := range []func(){func() { p.Load(8192) }, func() { p.Store(8192, 1) }} {
		err = p.Guard(func() error { touch(); return nil })
		var ce *pmem.CorruptError
		require.ErrorAs(t, err, &ce)
		require.Equal(t, path, ce.Path)
		require.EqualValues(t, 8192, ce.Offset)
	}
	mine := errors.New("mine")
	require.Equal(t, mine, p.Guard(func() error { return mine }))
	require.PanicsWithError(t, "mine", func() { _ = p.Guard(func() error { panic(mine) }) })
	before := debug.SetPanicOnFault(false)
	require.False(t, before, "it is as it was before the Guard")
	require.Error(t, p.Sync(), "a sync of a file that was cut off does not pass")
	require.NoError(t, p.Close())
}
