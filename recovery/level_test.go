package recovery_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/recovery"
)

func TestLevelNames(t *testing.T) {
	for l := recovery.LevelHeader; l <= recovery.LevelFull; l++ {
		back, err := recovery.ParseLevel(l.String())
		require.NoError(t, err)
		assert.Equal(t, l, back)
	}
	assert.Equal(t, "full", recovery.Level(0).String())
	assert.Equal(t, "full", recovery.Level(200).String())
	_, err := recovery.ParseLevel("deep")
	assert.ErrorContains(t, err, "header, structure, checksum or full")
}
