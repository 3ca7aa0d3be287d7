//go:build purego || (!amd64 && !arm64)

package flush

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNothingAvailableHere(t *testing.T) {
	assert.False(t, Available())
	assert.False(t, Complete())
	assert.Equal(t, "none", Method())
	assert.Empty(t, Methods())
	assert.PanicsWithValue(t, notAvailable, func() { Persist(nil) })
}
