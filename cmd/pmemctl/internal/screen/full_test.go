package screen

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFullScreen(t *testing.T) {
	var out bytes.Buffer
	s := EnterFullScreen(strings.NewReader(""), &out)
	require.NoError(t, s.Show([]string{"a", "b"}))
	s.Leave()
	assert.Equal(t, "\x1b[?1049h\x1b[?25l\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J\x1b[?25h\x1b[?1049l", out.String())
}

func TestSparkline(t *testing.T) {
	assert.Equal(t, " ▂▅█", Sparkline([]float64{9, 0, 1, 4, 8}, 4))
	assert.Equal(t, " ", Sparkline([]float64{0}, 5))
	assert.Equal(t, "", Sparkline(nil, 5))
}
