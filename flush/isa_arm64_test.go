//go:build linux && !purego

package flush

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestInstructionsAgreeWithKernel compares with the auxiliary vector.
func TestInstructionsAgreeWithKernel(t *testing.T) {
	const (
		atHWCAP, atHWCAP2 = 16, 26
		hwcapDCPOP        = 1 << 16
		hwcap2DCPODP      = 1 << 0
	)
	auxv, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		t.Skip(err)
	}
	words := map[uint64]uint64{}
	for pair := range slices.Chunk(auxv, 16) {
		words[binary.LittleEndian.Uint64(pair)] = binary.LittleEndian.Uint64(pair[8:])
	}
	var want []string
	if words[atHWCAP2]&hwcap2DCPODP != 0 {
		want = append(want, methodCVADP)
	}
	if words[atHWCAP]&hwcapDCPOP != 0 {
		want = append(want, methodCVAP)
	}
	assert.Equal(t, append(want, methodCVAC), instructions())
}

func TestCompleteNeedsPersistencePoint(t *testing.T) {
	for name, want := range map[string]bool{
		methodCache: true, methodCVADP: true, methodCVAP: true, methodCVAC: false, methodNone: false,
	} {
		assert.Equal(t, want, complete(name), name)
	}
}
