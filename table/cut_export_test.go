package table

import "pmemtable/internal/layout"

// HoldStripe locks a stripe as a writer does that something stops.
func (t *Table) HoldStripe(i int) (release func()) {
	t.stripes[i].mu.Lock()
	return t.stripes[i].mu.Unlock
}

// StripeOf is the stripe of a key.
func (t *Table) StripeOf(key []byte) int { return int(layout.StripeOf(t.hash(key), t.stripeBits)) }

// LongestCut is that of Stats, without a lock.
func (t *Table) LongestCut() int64 { return t.commits.longestCut.Load() }

// HoldEpochs keeps protectors from coming and going.
func (t *Table) HoldEpochs() (release func()) {
	t.epochs.mu.Lock()
	return t.epochs.mu.Unlock
}
