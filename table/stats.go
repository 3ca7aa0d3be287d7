package table

import (
	"encoding/hex"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"pmemtable/flush"
	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Stats describes a table at one moment. Sizes are in bytes.
type Stats struct {
	Path          string
	UUID          string
	FormatVersion int
	ReadOnly      bool

	// Medium is what the file lies on, or passes for when Forced.
	Medium     pmem.Media
	Forced     bool
	Durability string
	// Survives says in words which failures an acknowledged write survives.
	Survives string
	// FlushMethod is the instruction that writes cache lines back, "none" where
	// the medium needs none.
	FlushMethod string

	// Entries is valid when EntriesKnown: not while recovery still counts.
	Entries      int64
	EntriesKnown bool

	// Inline: the table's entries are (Options.Inline).
	Inline           bool
	Stripes          int
	ChunkSizeBytes   int64
	SegmentSizeBytes int64
	FileSizeBytes    int64 // without the hole in it that the log has not needed
	MaxSizeBytes     int64
	UsedBytes        int64         // of the file, metadata and what waits for reuse included
	FreeBytes        int64         // in the file, for new entries; 0 while recovery marks
	RetiredBlocks    int64         // unlinked, waiting for readers
	ProtectedBlocks  int64         // unlinked, waiting for a commit, a check or recovery
	ChunksUnknown    int64         // not yet known to be free or used
	Snapshots        int           // open
	SnapshotAge      time.Duration // of the oldest open one
	Epoch            uint64
	CommittedEpoch   uint64
	CommitSequence   uint64
	Generation       uint64
	// Counters are those of the session that has the table open for writing. Of a
	// read-only table Conflicts are its own.
	Counters
	Writes uint64 // changes of entries, of all kinds
	Cuts   uint64 // moments at which the table was frozen since open, for a commit or a snapshot
	// LastCut and LongestCut are the longest time at a stretch for which a cut held
	// locks of stripes: so long, at most, a writer waited for it.
	LastCut, LongestCut time.Duration

	// Poisoned says why the table takes no writes any more; empty if it does.
	Poisoned string

	// OpenedFrom says which root recovery chose, and why.
	OpenedFrom    string
	OpenDuration  time.Duration
	Marking       bool // recovery is still finding the free space
	MarkedEntries int64
	MarkDuration  time.Duration
	// LogReplayed is how many changes the log held that the open took up, and
	// LogReplayDuration how long that took.
	LogReplayed       int
	LogReplayDuration time.Duration
	// LogPending is what a read-only table shows that the log holds and the committed
	// root does not: the next open for writing takes it up.
	LogPending PendingLog
	// Damage is what made recovery leave the old free space out of use.
	Damage string
}

// Stats returns figures of this moment. It takes each stripe's lock for an
// instant, and its cost grows with the number of chunks of the file.
func (t *Table) Stats() (s Stats) {
	defer runtime.KeepAlive(t)
	var err error // of a page that is gone: what comes from it is left out
	defer t.caught(debug.SetPanicOnFault(true), &err)
	p, h := t.pool, t.pool.Header()
	s = Stats{
		Path:             p.Path(),
		UUID:             hex.EncodeToString(h.UUID[:]),
		FormatVersion:    int(h.Version),
		ReadOnly:         p.ReadOnly(),
		Medium:           p.Media(),
		Forced:           p.Forced(),
		Durability:       t.durability.String(),
		Survives:         survives(p.Media(), p.Forced(), t.durability),
		FlushMethod:      "none",
		Inline:           t.inline,
		Stripes:          len(t.stripes),
		ChunkSizeBytes:   int64(t.geometry.ChunkBytes),
		SegmentSizeBytes: int64(t.geometry.SegmentBytes),
		FileSizeBytes:    int64(p.SizeBytes()),
		MaxSizeBytes:     p.MaxSizeBytes(),
		Epoch:            p.Load(p.Regions().Control + layout.ControlEpoch),
		Generation:       p.Generation(),
		Counters:         t.counters(),
		OpenedFrom:       t.opened.decision.Why,
		OpenDuration:     t.opened.openDuration,
		MarkDuration:     time.Duration(t.opened.markDuration.Load()),
		MarkedEntries:    t.opened.markEntries.Load(),
		ProtectedBlocks:  int64(t.epochs.waiting()),
	}
	s.Writes = s.Changes()
	if p.ReadOnly() {
		s.Conflicts = t.conflicts.Load()
	}
	if p.Flushes() {
		s.FlushMethod = flush.Method()
	}
	if err := t.poison(); err != nil {
		s.Poisoned = err.Error()
	}
	if err := t.opened.markErr.Load(); err != nil {
		s.Damage = (*err).Error()
	}
	s.Marking = !p.ReadOnly() && s.MarkDuration == 0
	s.Snapshots, s.SnapshotAge = t.snapshots.describe()
	t.spaceStats(&s)
	t.stripeStats(&s)
	t.commitStats(&s)
	return s
}

func (t *Table) spaceStats(s *Stats) {
	space := t.pool.Space()
	s.FreeBytes = space.FreeBytes
	if !t.pool.ReadOnly() || !t.writerBegan() && !t.pool.BesideWriter() { // else its counters tell
		s.LogSizeBytes, s.LogUsedBytes = t.redo.sizes()
	}
	s.FileSizeBytes -= int64(t.geometry.LogBytes) - s.LogSizeBytes
	s.LogPending = t.pendingLog()
	s.LogReplayed, s.LogReplayDuration = t.opened.replayed, t.opened.replayDuration
	s.ChunksUnknown = int64(space.UnsweptChunks)
	s.UsedBytes = s.FileSizeBytes - s.FreeBytes
}

func (t *Table) stripeStats(s *Stats) {
	if t.pool.ReadOnly() {
		if s.EntriesKnown = t.opened.counts != nil && !t.writerBegan(); !s.EntriesKnown {
			return
		}
		for _, n := range t.opened.counts {
			s.Entries += int64(n)
		}
		s.Entries += int64(t.beyond(t.tailNow()))
		return
	}
	s.EntriesKnown = true
	for i := range t.stripes {
		st := &t.stripes[i]
		st.mu.Lock()
		s.Entries += st.count
		s.EntriesKnown = s.EntriesKnown && st.based
		s.RetiredBlocks += int64(len(st.retired))
		st.mu.Unlock()
	}
	if !s.EntriesKnown {
		s.Entries = 0
	}
}

func (t *Table) commitStats(s *Stats) {
	if slot := t.opened.decision.Slot; slot != nil {
		s.CommitSequence, s.CommittedEpoch = slot.Sequence, slot.Epoch
	}
	c := &t.commits
	s.Cuts, s.LastCut, s.LongestCut = uint64(c.cuts.Load()), time.Duration(c.lastCut.Load()), time.Duration(c.longestCut.Load())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count > 0 {
		s.CommitSequence, s.CommittedEpoch = c.last, c.committed
	}
}

// survives says in words what the durability keeps on a medium.
func survives(m pmem.Media, forced bool, d Durability) string {
	text := "kill -9 and a crash of the program lose nothing"
	switch {
	case m == pmem.DAX && forced:
		return text + "; power loss: as far as the medium is what it was forced to pass for"
	case m == pmem.DAX:
		return "power loss, a crash of the system, kill -9: nothing acknowledged is lost"
	case m == pmem.Tmpfs:
		return text + "; power loss and a restart of the system lose everything (the file lies in memory)"
	case d.kind == always:
		return "power loss, a crash of the system, kill -9: nothing acknowledged is lost"
	case d.kind == interval:
		return fmt.Sprintf("%s; power loss loses at most the last %v", text, d.interval)
	}
	return text + "; power loss falls back to the last Sync or Close"
}
