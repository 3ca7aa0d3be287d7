package flush_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"

	"pmemtable/flush"
)

// A hint may name anything: a reader without a lock follows words that may be stale.
func TestPrefetchChangesNothingAndNeverFaults(t *testing.T) {
	var line [64]byte
	for _, p := range []unsafe.Pointer{nil, unsafe.Pointer(&line[0]), unsafe.Pointer(&line[63]), unsafe.Add(nil, 1<<46)} {
		assert.NotPanics(t, func() { flush.Prefetch(p) })
	}
	assert.Equal(t, [64]byte{}, line)
}
