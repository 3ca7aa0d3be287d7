package table

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// RepairOptions say how Repair makes the new file. The zero value is a good one.
type RepairOptions struct {
	// Reach says what is looked for beside what the root reaches: by default what
	// damage that shows cut off. With recovery.ReachableOnly nothing that was
	// deleted or overwritten can come back. With recovery.Everything all of it does
	// of which an intact record is left, unless the root reaches a newer one.
	Reach recovery.Reach
	// Stripes and MaxSize are those of the new table, as in Options. 0: the
	// stripes of the damaged one, and the default or twice its size.
	Stripes int
	MaxSize int64
	// FileMode of the new file. 0: 0600.
	FileMode os.FileMode
	// Logger as in Options.
	Logger *slog.Logger
	// Progress, if set, is told how many records were met since it was told before.
	Progress func(records int)
}

// RepairReport is what Repair saw and did.
type RepairReport struct {
	// Entries of the new table, and the bytes of their keys and values.
	Entries              int
	KeyBytes, ValueBytes int64
	recovery.SalvageReport
}

// Repair salvages every intact entry of the damaged table at src into a new one at
// dst, and says what it left and where. It never writes to src, which may be
// damaged anywhere, cut off, or hold pages that cannot be read; no process may
// have it open for writing (ErrLocked). What the header says of the file's sizes
// is found again if the header is damaged.
//
// What the root reaches comes first, and always counts. Where the way from the
// root is damaged, Repair looks for the records themselves, and of several of one
// key takes the one of the highest epoch; so an entry that was deleted or
// overwritten may come back there, and only there: Scanned counts what was found
// so. A value whose record is damaged is lost, and an older one may stand in for
// it. Where all is intact nothing comes back that was deleted, and Complete is
// set.
//
// What the log holds behind the root goes over what was found: a put wins, a delete
// removes. A damaged frame is passed over, and those behind it count.
//
// Of a table of inline entries what the root does not reach is lost, and a value that
// the medium damaged is not noticed.
//
// dst appears under its name only when all of it is there, durable and closed;
// on an error nothing is left of it. fs.ErrExist if it exists; ErrNotPool if src
// holds nothing that looks like a table; ErrVersion for another format. Time grows
// with the size of src, whatever it holds, memory with the entries that are found
// without the root.
func Repair(src, dst string, opts RepairOptions) (RepairReport, error) {
	return RepairContext(context.Background(), src, dst, opts)
}

// RepairContext is Repair until ctx ends: then it fails with ctx's error, and nothing
// is left of dst.
func RepairContext(ctx context.Context, src, dst string, opts RepairOptions) (RepairReport, error) {
	if _, err := os.Lstat(dst); err == nil {
		return RepairReport{}, &os.PathError{Op: "repair", Path: dst, Err: fs.ErrExist}
	}
	p, damage, err := pmem.OpenDamaged(src, pmem.Options{Logger: opts.Logger})
	if err != nil {
		return RepairReport{}, err
	}
	report, err := salvageTo(ctx, dst, p, damage, opts)
	return report, errors.Join(err, p.Close())
}

// salvageTo makes the new table aside and publishes it, as Restore does.
func salvageTo(ctx context.Context, dst string, p *pmem.Pool, damage *pmem.Damage, opts RepairOptions) (RepairReport, error) {
	var random [8]byte
	_, _ = rand.Read(random[:])
	temp := filepath.Join(filepath.Dir(dst), "."+filepath.Base(dst)+"."+hex.EncodeToString(random[:])+".tmp")
	t, err := Open(temp, opts.forTable(p))
	if err != nil {
		return RepairReport{}, err
	}
	report, err := t.salvage(ctx, p, damage, opts)
	err = errors.Join(err, t.Close())
	if err != nil {
		return RepairReport{}, errors.Join(fmt.Errorf("repair to %s: %w", dst, err), os.Remove(temp))
	}
	return report, pmem.Publish(temp, dst)
}

// forTable are the options of the new table.
func (o RepairOptions) forTable(src *pmem.Pool) *Options {
	out := &Options{Inline: src.Geometry().Inline, Stripes: o.Stripes, MaxSize: o.MaxSize, FileMode: o.FileMode, Logger: o.Logger,
		Durability: OnSync, MustCreate: true}
	if out.Stripes == 0 {
		out.Stripes = src.Geometry().Stripes
	}
	if twice := 2 * int64(src.SizeBytes()); out.MaxSize == 0 && twice > pmem.DefaultMaxSizeBytes {
		out.MaxSize = min(twice, layout.MaxFileBytes)
	}
	return out
}

// salvage stores what is intact of a damaged pool.
func (t *Table) salvage(ctx context.Context, p *pmem.Pool, damage *pmem.Damage, o RepairOptions) (RepairReport, error) {
	var r RepairReport
	var buf []byte
	emit := func(rec recovery.Record) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if o.Progress != nil {
			o.Progress(1)
		}
		// Copied, so that a page that cannot be read faults here and not under a
		// stripe's lock.
		buf = append(append(buf[:0], rec.Key...), rec.Value...)
		stored, err := t.PutIfAbsent(buf[:len(rec.Key)], buf[len(rec.Key):])
		if stored {
			r.Entries++
			r.KeyBytes += int64(len(rec.Key))
			r.ValueBytes += int64(len(rec.Value))
		}
		return stored, err
	}
	meta := func(b []byte) error {
		batch := NewBatch()
		batch.SetMetadata(b)
		return t.Apply(batch)
	}
	var err error
	r.SalvageReport, err = recovery.Salvage(ctx, p, damage, o.Reach, emit, meta)
	return r, err
}
