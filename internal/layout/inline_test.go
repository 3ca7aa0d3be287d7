package layout

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func inlineMap(t *rapid.T) *InlineMap {
	g := DefaultGeometry()
	g.Stripes = 1 << rapid.IntRange(4, 12).Draw(t, "stripe bits")
	return NewInlineMap(g, rapid.Uint64().Draw(t, "seed"))
}

// A slot and its stripe give the key, and nothing else has its word there.
func TestInlineMapKeepsTheKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := inlineMap(t)
		key := rapid.Uint64().Draw(t, "key")
		hash, word := m.Of(key)
		require.Zero(t, word&(1<<InlineFlagBits-1))
		stripe := StripeOf(hash, m.stripeBits)
		flags := rapid.Uint64Range(0, 1<<InlineFlagBits-1).Draw(t, "flags")
		back, ok := m.Key(stripe, word|flags)
		require.True(t, ok)
		require.Equal(t, key, back)
		require.Equal(t, hash, m.Hash(stripe, word|flags))
		require.Equal(t, flags&InlineLive != 0, InlineIs(word|flags, word))
		require.False(t, InlineIs(word|InlineLive, word^1<<InlineFlagBits))
	})
}

// Every stripe and word of it is that of one key.
func TestInlineMapIsOnto(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := inlineMap(t)
		stripe := rapid.IntRange(0, len(m.starts)-2).Draw(t, "stripe")
		word := rapid.Uint64().Draw(t, "word") >> InlineFlagBits << InlineFlagBits
		key, ok := m.Key(stripe, word)
		require.Equal(t, uint32(word>>(InlineFlagBits+inlineLowerBits)) < m.starts[stripe+1]-m.starts[stripe], ok)
		if !ok {
			return
		}
		hash, again := m.Of(key)
		require.Equal(t, word, again)
		require.Equal(t, stripe, StripeOf(hash, m.stripeBits))
	})
}

// The widths go up to about twice the first, and cover all.
func TestInlineMapWidths(t *testing.T) {
	for bits := 4; bits <= 12; bits++ {
		g := DefaultGeometry()
		g.Stripes = 1 << bits
		require.NoError(t, g.Validate())
		m := NewInlineMap(g, 1)
		require.Zero(t, m.starts[0])
		require.EqualValues(t, 1<<inlineUpperBits, m.starts[g.Stripes])
		for i := range g.Stripes {
			width := m.starts[i+1] - m.starts[i]
			require.GreaterOrEqual(t, width, uint32(1<<m.binShift))
			require.LessOrEqual(t, width, uint32(1<<(64-inlineLowerBits-InlineFlagBits)))
			share := float64(width) * float64(g.Stripes) / (1 << inlineUpperBits)
			require.Greater(t, share, 0.6)
			require.Less(t, share, 1.45)
		}
	}
}

func TestInlineHolds(t *testing.T) {
	for _, c := range []struct {
		word, valueWord, value uint64
		holds                  bool
	}{
		{0, 0, 0, false},
		{0, 7, 7, false},
		{InlineLive, 0, 0, false},
		{InlineLive, 7, 7, true},
		{InlineLive | InlineZero, 0, 0, true},
		{InlineLive | InlineZero, 7, 0, true},
		{InlineZero, 7, 0, false},
		{SlotOverflow, 7, 7, false},
	} {
		value, holds := InlineHolds(c.word, c.valueWord)
		require.Equal(t, c.holds, holds, "%x %x", c.word, c.valueWord)
		if holds {
			require.Equal(t, c.value, value, "%x %x", c.word, c.valueWord)
		}
	}
}

// Every probe comes by the home line first, stays within the segment, and in a segment
// with fewer lines than probes comes by all of them.
func TestInlineProbe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := 1<<rapid.IntRange(3, 8).Draw(t, "bits") - 1
		hash := rapid.Uint64().Draw(t, "hash")
		probe := ProbeInline(hash, lines)
		seen := map[int]bool{}
		for n := 0; ; n++ {
			line, ok := probe.Next()
			if !ok {
				break
			}
			require.True(t, line >= 0 && line < lines)
			if home := int(hash>>inlineUpperBits) & lines; n == 0 && home != 0 {
				require.Equal(t, home-1, line)
				require.Zero(t, probe.Passed())
			}
			require.Less(t, probe.Passed(), InlineProbes)
			seen[line] = true
		}
		if lines < InlineProbes-1 {
			require.Len(t, seen, lines)
		}
		require.GreaterOrEqual(t, len(seen), min(lines, InlineProbes/4))
	})
}
