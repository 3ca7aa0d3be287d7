package layout

import "math/bits"

// The counters tell readers of other processes what the session does. They are no
// part of the table's state: nothing decides by them, they are never written back or
// drained for their own sake, and each session begins with zeros. After a power loss
// they may be anything.
//
// Those of the table lie in the control page, which every commit dirties anyway;
// those of the stripes in a region of their own, two lines each: operations,
// structure. Counters that different locks guard never share a line with each other,
// and none with a word that a lookup reads.

// CounterTable is a word of the table's counters.
type CounterTable int

// The table's counters. Each group is on lines of its own.
const (
	CounterGeneration CounterTable = 0 // the session whose counters these are; stored last when they begin
	CounterBegan      CounterTable = 1 // when that was, in Unix nanoseconds

	CounterBatches CounterTable = 8 // batches applied
	CounterClears  CounterTable = 9

	CounterExtents CounterTable = 16 // times that the file grew

	CounterConflicts CounterTable = 24 // reads of the session's process that had to be repeated

	CounterCheckpoints CounterTable = 64  // a Latency
	CounterDrains      CounterTable = 104 // a Latency, of a sample
	CounterLogFlushes  CounterTable = 144 // a Latency

	CounterLogFrames  CounterTable = 184 // flushed
	CounterLogChanges CounterTable = 185
	CounterLogBytes   CounterTable = 186
	CounterLogSize    CounterTable = 187 // not counted but set: bytes of the ring now,
	CounterLogUsed    CounterTable = 188 // and of these in use

	tableCounters = 192
)

// CounterStripe is a word of a stripe's counters.
type CounterStripe int

// The counters of a stripe: changes of entries on its first line, each change
// counted once; changes of structure on its second.
const (
	CounterPutNew     CounterStripe = iota // stored under a key that was absent
	CounterPutOver                         // stored over a value
	CounterDeleted                         // removed
	CounterSwapped                         // a comparison held, and the entry was changed or removed
	CounterSwapFailed                      // a comparison did not hold
	CounterUnchanged                       // nothing to do: a delete of what is absent, and the like
	CounterBatched                         // changed by a batch
	CounterMoved                           // records that Compact moved
	CounterSplits
	CounterMerges
	CounterCopies // segments copied on write
	CounterChains // overflow segments added

	StripeCounters // how many
)

// A Latency is 40 words: sum and longest in nanoseconds, the last, five that are
// spare, and 32 counts of durations.
const (
	LatencySum     = 0
	LatencyLongest = 1
	LatencyLast    = 2
	LatencyBuckets = 8

	LatencyBucketCount = 32
	latencyWords       = LatencyBuckets + LatencyBucketCount
	latencyFirstBits   = 6
)

// LatencyBucket is the bucket that counts a duration: the first whose bound is not
// exceeded, or the last.
func LatencyBucket(nanoseconds uint64) int {
	if nanoseconds == 0 {
		return 0
	}
	return min(max(bits.Len64(nanoseconds-1)-latencyFirstBits, 0), LatencyBucketCount-1)
}

// LatencyBound is the longest duration that a bucket counts, in nanoseconds: 64 for
// the first, twice as much for each further one. The last has no bound.
func LatencyBound(bucket int) uint64 { return 1 << (latencyFirstBits + bucket) }

const stripeCounterBytes = 2 * LineBytes

// The groups fit their places, and a stripe's lines begin a pair of lines.
const (
	_ = uint(CounterDrains - (CounterCheckpoints + latencyWords))
	_ = uint(CounterLogFlushes - (CounterDrains + latencyWords))
	_ = uint(CounterLogFrames - (CounterLogFlushes + latencyWords))
	_ = uint(tableCounters - (CounterLogUsed + 1))
	_ = uint(stripeCounterBytes/WordBytes - StripeCounters)
	_ = uint(PageBytes - (ControlCounters + tableCounters*WordBytes))
	_ = uint(ControlCounters - (ControlGeneration + LineBytes))
)

// countersBytes is the size of the stripes' region.
func (g Geometry) countersBytes() int { return g.Stripes * stripeCounterBytes }

// CounterRanges are the pieces of the file that hold counters: offsets and sizes.
func (g Geometry) CounterRanges() [2][2]uint64 {
	r := g.Regions()
	return [2][2]uint64{{r.TableCounter(0), tableCounters * WordBytes}, {r.Counters, uint64(g.countersBytes())}}
}

// TableCounter is the offset of a counter of the table.
func (r *Regions) TableCounter(c CounterTable) uint64 {
	return r.Control + ControlCounters + uint64(c)*WordBytes
}

// StripeCounter is the offset of a counter of a stripe.
func (r *Regions) StripeCounter(stripe int, c CounterStripe) uint64 {
	return r.Counters + uint64(stripe)*stripeCounterBytes + uint64(c)*WordBytes
}
