package recovery

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Marked is what Mark found.
type Marked struct {
	Marks   *pmem.Marks
	Counts  []uint64 // entries per stripe, of the working root as of open
	Entries uint64
}

// Mark finds what the roots of a session's start reach: first the working root's
// tree, then what only a protected slot reaches, which is passed to unlinked. The
// trees are frozen: everything in them was born before the session's first epoch,
// and the caller sees to it that nothing of them is reused before Mark is done.
//
// On persistent memory, after an unclean end, it writes back what it reads and a
// kill may have left undrained (directory words, overflow links), and drains before it returns, so that nothing behind an older word
// is reused before the newer one is durable.
//
// An error is damage, or ctx's: then nothing may be swept.
func Mark(ctx context.Context, p *pmem.Pool, s *Start, unlinked func(off uint64)) (*Marked, error) {
	m := &Marked{Marks: p.NewMarks(), Counts: make([]uint64, len(s.Roots.Stripes))}
	if err := m.markMetadata(p, s.Roots.Metadata); err != nil {
		return nil, err
	}
	err := eachStripe(ctx, p, len(s.Roots.Stripes), defaultWorkers(), func(stripe int) error {
		if s.Roots.Stripes[stripe] == 0 {
			return nil // an empty one
		}
		return m.markStripe(ctx, p, stripe, s)
	})
	if err != nil {
		return nil, err
	}
	for i := range s.Protected {
		if err := m.markSlot(ctx, p, &s.Protected[i], unlinked); err != nil {
			return nil, err
		}
	}
	for _, n := range m.Counts {
		m.Entries += n
	}
	return m, m.Marks.Validate()
}

// defaultWorkers is half of the processors, so that the table can serve meanwhile.
func defaultWorkers() int { return runtime.GOMAXPROCS(0) / 2 }

// eachStripe runs fn for every stripe, in their order, on several goroutines. An error
// ends it and is returned.
func eachStripe(ctx context.Context, p *pmem.Pool, stripes, workers int, fn func(stripe int) error) error {
	if min(stripes, workers) <= 1 {
		return p.Guard(func() error {
			for i := range stripes {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := fn(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		errs = make([]error, min(stripes, workers))
	)
	worker := func(w int) {
		for errs[w] == nil {
			i := int(next.Add(1) - 1)
			if i >= stripes {
				return
			}
			if errs[w] = ctx.Err(); errs[w] == nil {
				errs[w] = p.Guard(func() error { return fn(i) })
			}
		}
		next.Store(int64(stripes)) // one error is enough
	}
	for w := range len(errs) - 1 {
		wg.Go(func() { worker(w) })
	}
	worker(len(errs) - 1)
	wg.Wait()
	return errors.Join(errs...)
}

func (m *Marked) markMetadata(p *pmem.Pool, word uint64) error {
	if word == 0 {
		return nil
	}
	_, err := m.Marks.Mark(word, 1)
	return wrapMark(p, "metadata", word, err)
}

// markStripe marks the tree of one stripe of the working root, in which every
// block has exactly one reference.
func (m *Marked) markStripe(ctx context.Context, p *pmem.Pool, stripe int, s *Start) error {
	once := func(object string, off uint64, sizeBytes int) error {
		fresh, err := m.Marks.Mark(off, sizeBytes)
		switch {
		case err == nil && fresh:
			return nil
		case err == nil:
			err = errTwice
		}
		return wrapMark(p, object, off, err)
	}
	count := uint64(0)
	records := recordMarks{pool: p, marks: m.Marks}
	late := undrained{pool: p, none: s.Decision.Clean || !p.Flushes()}
	w := walk{pool: p, stripe: stripe,
		directory: func(at uint64, depth uint) error {
			late.directory(at, depth)
			return once("directory", at, layout.DirectoryBytes(depth))
		},
		segment: func(at uint64, h layout.SegmentHeader) (bool, error) {
			late.link(at + layout.SegmentNext)
			return true, errors.Join(ctx.Err(), once("segment", at, p.Geometry().SegmentBytes))
		},
		slot: func(_ *segmentView, _, _ int, word uint64) error {
			count++
			return records.add(layout.SlotRecord(word))
		},
		inline: func(*segmentView, int, int, uint64, uint64) error { count++; return nil },
	}
	err := w.stripeRoot(s.Roots.Stripes[stripe])
	if err == nil {
		err = records.mark()
	}
	late.persist()
	m.Counts[stripe] = count
	return err
}

// recordMarks marks the records of a stripe, many at a time.
type recordMarks struct {
	pool    *pmem.Pool
	marks   *pmem.Marks
	waiting [256]uint64
	n       int
}

func (r *recordMarks) add(off uint64) error {
	r.waiting[r.n] = off
	if r.n++; r.n < len(r.waiting) {
		return nil
	}
	return r.mark()
}

// mark marks those that wait.
func (r *recordMarks) mark() error {
	added, err := r.marks.MarkAll(r.waiting[:r.n])
	if added < r.n {
		return wrapMark(r.pool, "record", r.waiting[added], cmp.Or(err, errTwice))
	}
	r.n = 0
	return nil
}

// undrained collects words of a tree's structure that a kill may have left stored
// but not drained. One drain for many is enough: it only has to come before the
// sweep.
type undrained struct {
	pool   *pmem.Pool
	none   bool // there are none to expect
	ranges []pmem.Range
}

const maxUndrained = 4096 // bounds the memory, however large the table

// directory adds a directory's words. The only word of one of depth 0 is never
// stored in place: its directory is copied whenever its segment is.
func (u *undrained) directory(at uint64, depth uint) {
	if depth > 0 {
		u.add(pmem.Range{Offset: at + layout.DirectoryHeaderBytes, Bytes: layout.WordBytes << depth})
	}
}

// link adds the link to an overflow segment. The word of one that leads nowhere has
// never led anywhere else.
func (u *undrained) link(at uint64) {
	if next, _ := layout.DecodeSegmentLink(u.pool.Load(at)); next != 0 {
		u.add(pmem.Range{Offset: at, Bytes: layout.WordBytes})
	}
}

func (u *undrained) add(r pmem.Range) {
	if u.none {
		return
	}
	if u.ranges = append(u.ranges, r); len(u.ranges) >= maxUndrained {
		u.persist()
	}
}

func (u *undrained) persist() {
	if len(u.ranges) > 0 {
		u.pool.Persist(u.ranges...)
		u.ranges = u.ranges[:0]
	}
}

// markSlot marks what only a protected superblock slot reaches. A segment that is
// marked is one of the working root's tree, or of the slot before: then so is all
// that it held when the slot was committed and still holds.
func (m *Marked) markSlot(ctx context.Context, p *pmem.Pool, s *pmem.Slot, unlinked func(off uint64)) error {
	mark := func(object string, off uint64, sizeBytes int) (fresh bool, err error) {
		fresh, err = m.Marks.Mark(off, sizeBytes)
		if fresh {
			unlinked(off)
		}
		return fresh, wrapMark(p, object, off, err)
	}
	if s.Metadata != 0 {
		if _, err := mark("metadata", s.Metadata, 1); err != nil {
			return err
		}
	}
	for stripe, root := range s.Roots {
		w := walk{pool: p, stripe: stripe,
			directory: func(at uint64, depth uint) error {
				_, err := mark("directory", at, layout.DirectoryBytes(depth))
				return err
			},
			segment: func(at uint64, h layout.SegmentHeader) (bool, error) {
				fresh, err := mark("segment", at, p.Geometry().SegmentBytes)
				return fresh, errors.Join(ctx.Err(), err)
			},
			slot: func(_ *segmentView, _, _ int, word uint64) error {
				_, err := mark("record", layout.SlotRecord(word), 1)
				return err
			},
		}
		if err := w.stripeRoot(root); err != nil {
			return err
		}
	}
	return nil
}

var errTwice = errors.New("two references to one block")

func wrapMark(p *pmem.Pool, object string, off uint64, err error) error {
	if err == nil {
		return nil
	}
	return p.Corrupt(object, off, "%v", err)
}

// Blocks calls fn with every block of a frozen tree, and reads none of them any
// more when it does: after a Clear, to give the old one back to writers who will
// use it at once. Damage ends it.
func Blocks(p *pmem.Pool, roots Roots, fn func(off uint64) error) error {
	for stripe, root := range roots.Stripes {
		var read []uint64 // the segment that is being read, and what it holds
		done := func() error {
			for _, off := range read {
				if err := fn(off); err != nil {
					return err
				}
			}
			read = read[:0]
			return nil
		}
		dir := uint64(0)
		w := walk{pool: p, stripe: stripe,
			directory: func(at uint64, _ uint) error { dir = at; return nil },
			segment: func(at uint64, _ layout.SegmentHeader) (bool, error) {
				err := done()
				read = append(read, at)
				return true, err
			},
			slot: func(_ *segmentView, _, _ int, word uint64) error {
				read = append(read, layout.SlotRecord(word))
				return nil
			},
		}
		if err := w.stripeRoot(root); err != nil {
			return err
		}
		if root != 0 {
			read = append(read, dir)
		}
		if err := done(); err != nil {
			return err
		}
	}
	return nil
}
