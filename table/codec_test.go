package table_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// version encodes itself, but cannot append.
type version struct{ major, minor byte }

func (v *version) MarshalBinary() ([]byte, error) {
	if v.major == 0 {
		return nil, errors.New("no version")
	}
	return []byte{v.major, v.minor}, nil
}

func (v *version) UnmarshalBinary(b []byte) error {
	if len(b) != 2 {
		return errors.New("a version has two bytes")
	}
	v.major, v.minor = b[0], b[1]
	return nil
}

// TestCodecsOfTypesThatCannotAppend: what MarshalBinary returns is stored, its error is
// the call's and nothing is stored, and what does not decode is an error of the call or
// the end of the iteration.
func TestCodecsOfTypesThatCannotAppend(t *testing.T) {
	tab := onHeap(t, pmem.Tmpfs, 1, 1<<20)
	m := table.NewMap(tab, table.BytesCodec[[]byte](), table.BinaryCodec[version]())
	require.NoError(t, m.Store([]byte("go"), version{1, 26}))
	got, ok, err := m.Load([]byte("go"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, version{1, 26}, got)
	require.ErrorContains(t, m.Store([]byte("none"), version{}), "no version")
	require.Equal(t, 1, tab.Len())
	require.NoError(t, tab.Put([]byte("other"), []byte("abc")))
	_, _, err = m.Load([]byte("other"))
	require.ErrorContains(t, err, "two bytes")
}
