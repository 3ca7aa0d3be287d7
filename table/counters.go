package table

import (
	"math"
	"time"

	"pmemtable/internal/layout"
)

// The counters lie in the mapping, for readers of other processes (see
// internal/layout/counters.go). A stripe's are stored by who holds its mutex; those
// of the table are added to atomically, by what happens seldom enough. Reads are
// not counted: a lookup writes no memory that another processor reads.

// Counters count what was done to a table since the session that writes it, or that
// wrote it last, began. Each change of an entry is one of the first eight.
type Counters struct {
	// Counted tells whether the file holds the counters of that session: not while
	// one begins, nor after power loss, when the others are 0.
	Counted bool
	// CountedSince is when the session began.
	CountedSince time.Time

	PutNew     uint64 // stored under a key that was absent
	PutOver    uint64 // stored over a value
	Deleted    uint64
	Swapped    uint64 // changed or removed by a comparison that held, or by Update
	SwapFailed uint64 // comparisons that did not hold, those of Update among them
	Unchanged  uint64 // deletes of what was absent, PutIfAbsent over what was there, Update that kept
	Batched    uint64 // changed by batches
	Moved      uint64 // records that Compact moved

	Batches      uint64
	Clears       uint64 // and Restores, whose entries are not counted one by one
	Splits       uint64
	Merges       uint64
	Copies       uint64 // segments copied on write
	Chains       uint64 // overflow segments added
	GrownExtents uint64 // times that the file grew
	Conflicts    uint64 // reads that had to be repeated

	Checkpoints     uint64
	CheckpointTimes Latencies // of all checkpoints

	// The log, with Always on a page cache. Of the changes that one flush makes durable
	// each was one of a caller who waited for it, or several in a batch.
	LogFlushes    uint64 // syncs of it
	LogFlushTimes Latencies
	LogFrames     uint64 // flushed, as those below
	LogChanges    uint64
	LogBytes      uint64
	LogSizeBytes  int64 // of its ring, now; 0 while there is none
	LogUsedBytes  int64 // of these, what a power cut would need

	DrainTimes Latencies // of one in 256 of the drains that make a slot durable, on persistent memory
}

// Changes is how many entries were stored, removed or moved.
func (c Counters) Changes() uint64 {
	return c.PutNew + c.PutOver + c.Deleted + c.Swapped + c.Batched + c.Moved
}

// Latencies say how long something took each time.
type Latencies struct {
	Count                uint64
	Total, Last, Longest time.Duration
	// Buckets[i] counts what took up to LatencyBound(i) and longer than
	// LatencyBound(i-1); the last one everything longer.
	Buckets [layout.LatencyBucketCount]uint64
}

// LatencyBound is the upper bound of bucket i: 64 ns for the first, twice as much
// for each further one.
func LatencyBound(i int) time.Duration { return time.Duration(layout.LatencyBound(i)) }

// Mean is 0 when nothing was counted.
func (l Latencies) Mean() time.Duration {
	if l.Count == 0 {
		return 0
	}
	return l.Total / time.Duration(min(l.Count, math.MaxInt64))
}

// AtMost returns what the share q of the durations, from 0 to 1, did not exceed: the
// bound of a bucket, so up to twice the exact figure, or Longest. 0 when nothing was
// counted.
func (l Latencies) AtMost(q float64) time.Duration {
	want, seen := uint64(math.Ceil(q*float64(l.Count))), uint64(0)
	for i, n := range l.Buckets {
		if seen += n; n > 0 && seen >= want {
			return min(LatencyBound(i), l.Longest)
		}
	}
	return l.Longest
}

// Since returns what was counted after before, an earlier value of the same session.
// Longest stays that of the whole session.
func (l Latencies) Since(before Latencies) Latencies {
	l.Count = lessOrZero(l.Count, before.Count)
	l.Total = max(0, l.Total-before.Total)
	for i := range l.Buckets {
		l.Buckets[i] = lessOrZero(l.Buckets[i], before.Buckets[i])
	}
	return l
}

// lessOrZero is a-b, or 0 where counters that are read one by one went backwards.
func lessOrZero(a, b uint64) uint64 { return a - min(a, b) }

// countStripe counts something of a stripe, which is locked. What is built aside
// holds no stripe's lock, and is not counted.
func (t *Table) countStripe(s *stripe, c layout.CounterStripe) {
	if t.asideOf == nil {
		t.pool.CountStripe(s.index, c, 1)
	}
}

// countChange counts a change of an entry. The stripe is locked.
func (t *Table) countChange(s *stripe, m *mutation, added bool) {
	c := layout.CounterPutOver
	switch {
	case m.batched:
		c = layout.CounterBatched
	case m.kind == storeIfEqual, m.kind == removeIfEqual:
		c = layout.CounterSwapped
	case m.kind == storeIfBlock:
		c = layout.CounterMoved
	case m.kind == remove:
		c = layout.CounterDeleted
	case added:
		c = layout.CounterPutNew
	}
	t.countStripe(s, c)
}

// countUnchanged counts a mutation whose condition did not hold, or that only looked.
// The stripe is locked.
func (t *Table) countUnchanged(s *stripe, m *mutation) {
	c := layout.CounterUnchanged
	switch m.kind {
	case storeIfBlock:
		return // Compact's own: somebody else was faster
	case storeIfEqual, removeIfEqual:
		c = layout.CounterSwapFailed
	case holdsEqual, holdsAbsent:
		if !m.held {
			c = layout.CounterSwapFailed
		}
	}
	t.countStripe(s, c)
}

// countBatch counts a batch, unless it changed nothing.
func (t *Table) countBatch(changed bool) {
	if changed {
		t.pool.Count(layout.CounterBatches, 1)
	}
}

// checkpointed takes notice of a checkpoint that ended well.
func (t *Table) checkpointed(began int64) {
	took := time.Duration(now() - began)
	t.pool.CountLatency(layout.CounterCheckpoints, took)
	t.reportCheckpoint(took)
}

// countConflict counts a read that has to be repeated, which may write what others
// read: it does not happen often.
func (t *Table) countConflict() {
	if t.pool.ReadOnly() {
		t.conflicts.Add(1)
		return
	}
	t.pool.Count(layout.CounterConflicts, 1)
}

// drainSample: of so many drains that make a slot durable, one is timed.
const drainSample = 256

// drainBegins returns when the drain begins if it is to be timed, else 0. The stripe
// is locked.
func (s *stripe) drainBegins() int64 {
	if s.drains++; s.drains%drainSample != 0 {
		return 0
	}
	return now()
}

// drained takes notice of the end of a drain.
func (t *Table) drained(began int64) {
	if began != 0 {
		t.pool.CountLatency(layout.CounterDrains, time.Duration(now()-began))
	}
}

// counters reads the counters of this moment; each is of a moment of its own.
func (t *Table) counters() Counters {
	p := t.pool
	if !p.Counted() {
		return Counters{}
	}
	var sums [layout.StripeCounters]uint64
	for i := range t.stripes {
		for c := range sums {
			sums[c] += p.StripeCounter(i, layout.CounterStripe(c))
		}
	}
	c := Counters{
		Counted:      true,
		CountedSince: time.Unix(0, int64(p.Counter(layout.CounterBegan))),
		PutNew:       sums[layout.CounterPutNew],
		PutOver:      sums[layout.CounterPutOver],
		Deleted:      sums[layout.CounterDeleted],
		Swapped:      sums[layout.CounterSwapped],
		SwapFailed:   sums[layout.CounterSwapFailed],
		Unchanged:    sums[layout.CounterUnchanged],
		Batched:      sums[layout.CounterBatched],
		Moved:        sums[layout.CounterMoved],
		Splits:       sums[layout.CounterSplits],
		Merges:       sums[layout.CounterMerges],
		Copies:       sums[layout.CounterCopies],
		Chains:       sums[layout.CounterChains],
		Batches:      p.Counter(layout.CounterBatches),
		Clears:       p.Counter(layout.CounterClears),
		GrownExtents: p.Counter(layout.CounterExtents),
		Conflicts:    p.Counter(layout.CounterConflicts),

		CheckpointTimes: t.latencies(layout.CounterCheckpoints),
		DrainTimes:      t.latencies(layout.CounterDrains),
		LogFlushTimes:   t.latencies(layout.CounterLogFlushes),
		LogFrames:       p.Counter(layout.CounterLogFrames),
		LogChanges:      p.Counter(layout.CounterLogChanges),
		LogBytes:        p.Counter(layout.CounterLogBytes),
		LogSizeBytes:    int64(min(p.Counter(layout.CounterLogSize), uint64(t.geometry.LogBytes))),
		LogUsedBytes:    int64(min(p.Counter(layout.CounterLogUsed), uint64(t.geometry.LogBytes))),
	}
	c.Checkpoints, c.LogFlushes = c.CheckpointTimes.Count, c.LogFlushTimes.Count
	return c
}

func (t *Table) latencies(at layout.CounterTable) (l Latencies) {
	read := func(word int) uint64 { return t.pool.Counter(at + layout.CounterTable(word)) }
	l.Total, l.Last = time.Duration(read(layout.LatencySum)), time.Duration(read(layout.LatencyLast))
	l.Longest = time.Duration(read(layout.LatencyLongest))
	for i := range l.Buckets {
		l.Buckets[i] = read(layout.LatencyBuckets + i)
		l.Count += l.Buckets[i]
	}
	return l
}
