package table

import (
	"fmt"
	"time"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// replay takes up what the log holds beside the committed root, at open, before the
// table serves:
//
//  1. the session record says that it is doing so (recovery.Begin). A crash from here
//     to step 4 leaves the committed root the truth, with the log behind it: the next
//     open begins anew, and finds what the steps below stored to be free space.
//  2. the changes are carried out in their order, as a caller's. Those of a frame whose
//     frame is cut off by a commit (for room) are carried out again by the next open:
//     each says what a key is to hold, so that once more is no more.
//  3. a checkpoint. Its slot names a log of this session; what the old one held is in
//     its tree.
//  4. the session record says that all is taken up.
func (t *Table) replay(s *recovery.Start) error {
	began, changes, frames := time.Now(), 0, 0
	d := &s.Decision
	err := recovery.ReadLog(t.pool, d.Log, d.LogEnd, func(position uint64, list []recovery.LogChange) error {
		t.redo.resume(layout.LogSpan{Generation: d.Log.Generation, Start: position, RingBytes: d.Log.RingBytes})
		for i := range list {
			if err := t.redoChange(&list[i]); err != nil {
				return fmt.Errorf("taking up the log: %w", err)
			}
		}
		frames++
		changes += len(list)
		return nil
	})
	if err != nil {
		return err
	}
	t.redo.resume(layout.LogSpan{})
	if err := t.checkpoint(); err != nil {
		return err
	}
	floor := t.pool.Previous().Floor
	if t.pool.Media() != pmem.PageCache {
		floor = t.commits.next
	}
	if err := t.pool.EndReplay(floor); err != nil {
		return t.fail(err)
	}
	t.opened.replayed, t.opened.replayDuration = changes, time.Since(began)
	t.pool.Logger().Info("took the log up", "path", t.pool.Path(), "changes", changes, "frames", frames, "took", t.opened.replayDuration)
	return nil
}

// redoChange carries out one change of the log.
func (t *Table) redoChange(c *recovery.LogChange) error {
	if c.Kind == layout.LogMetadata {
		return t.storeMetadata(c.Record.Value, 0)
	}
	m := mutation{kind: store, key: c.Key, value: c.Record.Value}
	if c.Kind == layout.LogDelete {
		m.kind, m.value = remove, nil
	}
	if err := t.aim(&m); err != nil {
		return err
	}
	return t.attempt(&t.stripes[layout.StripeOf(m.hash, t.stripeBits)], &m)
}
