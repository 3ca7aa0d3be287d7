package table

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"pmemtable/recovery"
)

// reportOpened logs which root recovery chose, and why: of interest to everybody
// when the session before did not end in order.
func (t *Table) reportOpened() {
	d, p := &t.opened.decision, t.pool
	level, text := slog.LevelInfo, "opened after an unclean end"
	switch {
	case d.Poisoned:
		level, text = slog.LevelWarn, "opened after a failed sync"
	case d.Clean, p.BesideWriter():
		level, text = slog.LevelDebug, "opened"
	}
	if !p.Logger().Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("path", p.Path()), slog.String("root", d.Why), slog.String("medium", p.Media().String()), slog.Bool("read_only", p.ReadOnly()),
		slog.Uint64("generation", p.Generation()), slog.Bool("checked_whole", d.Unproven), slog.Duration("took", t.opened.openDuration),
	}
	if d.Slot != nil {
		attrs = append(attrs, slog.Uint64("committed_sequence", d.Slot.Sequence), slog.Uint64("committed_epoch", d.Slot.Epoch))
	}
	p.Logger().LogAttrs(context.Background(), level, text, attrs...)
}

// reportMarked logs what marking found, or what damage stopped it.
func (t *Table) reportMarked(m *recovery.Marked, err error, took time.Duration) {
	path, lasted := slog.String("path", t.pool.Path()), slog.Duration("took", took)
	if err == nil {
		level := slog.LevelInfo
		if t.opened.decision.Clean {
			level = slog.LevelDebug
		}
		if !t.pool.Logger().Enabled(context.Background(), level) {
			return
		}
		t.pool.Logger().LogAttrs(context.Background(), level, "free space found", path, lasted,
			slog.Uint64("entries", m.Entries), slog.Int64("free_bytes", t.pool.Space().FreeBytes))
		return
	}
	if t.ctx.Err() != nil {
		return // the table closes
	}
	attrs := []slog.Attr{path, lasted, slog.Any("err", err)}
	var where *CorruptError
	if errors.As(err, &where) {
		attrs = append(attrs, slog.String("object", where.Object), slog.Uint64("offset", where.Offset))
	}
	t.pool.Logger().LogAttrs(context.Background(), slog.LevelError, "damage found: the file's free space stays out of use", attrs...)
}
