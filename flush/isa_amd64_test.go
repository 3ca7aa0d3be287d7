//go:build !purego

package flush

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/amd64"
)

var streamSizesToTest = []uintptr{0, streamSizeBytes, amd64.NeverStream}

func setStreamBytes(t testing.TB, n uintptr) {
	before := streamBytes
	streamBytes = n
	t.Cleanup(func() { streamBytes = before })
}

// TestInstructionsAgreeWithKernel compares CPUID with what Linux read there.
func TestInstructionsAgreeWithKernel(t *testing.T) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip(err)
	}
	_, flags, found := strings.Cut(string(info), "flags")
	require.True(t, found)
	flags, _, _ = strings.Cut(flags, "\n")
	var want []string
	for _, name := range []string{methodCLWB, methodCLFLUSHOPT, methodCLFLUSH} {
		if slices.Contains(strings.Fields(flags), name) {
			want = append(want, name)
		}
	}
	assert.Equal(t, want, instructions())
}

func TestVetoMOVNT(t *testing.T) {
	setStreamBytes(t, streamSizeBytes)
	setVeto(t, "movnt")
	instructions()
	assert.Equal(t, uintptr(amd64.NeverStream), streamBytes)
}
