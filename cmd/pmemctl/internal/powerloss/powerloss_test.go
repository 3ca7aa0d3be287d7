package powerloss

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/recovery/crashtest"
)

func TestNothingIsLost(t *testing.T) {
	for _, m := range Media {
		figures, err := Run(t.Context(), m, 1)
		require.NoError(t, err, m.Name)
		assert.Greater(t, figures.Images, 50, m.Name)
	}
}

// TestWhatIsLostShows: a medium that loses more than the table was told of.
func TestWhatIsLostShows(t *testing.T) {
	liar := Media[0]
	liar.model = crashtest.X86 // to which a sync is nothing: the page cache that the table sees never persists
	_, err := Run(t.Context(), liar, 1)
	assert.Error(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err = Run(ctx, Media[0], 1)
	assert.ErrorIs(t, err, context.Canceled)
}
