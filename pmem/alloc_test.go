package pmem_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/pmem"
)

// The failures looked for here: a block given out twice, over another's, over
// descriptors or over the end of the file; space that is lost; a refusal while
// there is room; a request that changes something although it fails.

// blocks is what a test holds of an allocator.
type blocks struct {
	t    require.TestingT
	p    *pmem.Pool
	live map[uint64]int // offset to the size asked for
}

// end is where a block's space ends.
func (b *blocks) end(off uint64) uint64 { return off + uint64(b.p.BlockAt(off)) }

// verify checks what must hold at every moment.
func (b *blocks) verify() {
	p, r := b.p, b.p.Regions()
	offsets := make([]uint64, 0, len(b.live))
	for off := range b.live {
		offsets = append(offsets, off)
	}
	slices.Sort(offsets)
	last := r.Arena
	for _, off := range offsets {
		require.GreaterOrEqual(b.t, off, last, "block %#x overlaps the one before it", off)
		require.Zero(b.t, off%16)
		last = b.end(off)
		chunk := uint64(p.Geometry().ChunkBytes)
		for at := off; at < last; at += chunk {
			i, ok := p.ChunkOf(at)
			require.True(b.t, ok, "block %#x lies outside the file", off)
			require.False(b.t, p.Geometry().HoldsDescriptors(i), "block %#x lies over descriptors", off)
		}
	}
	require.LessOrEqual(b.t, last, p.SizeBytes())
}

// account checks that all space is either free or in use.
func (b *blocks) account() {
	p := b.p
	p.DrainShards()
	s := p.Space()
	used := int64(0)
	for off := range b.live {
		used += int64(b.end(off) - off)
	}
	chunk := int64(p.Geometry().ChunkBytes)
	require.Zero(b.t, s.UnsweptChunks)
	// The file may be growing ahead of need meanwhile.
	require.LessOrEqual(b.t, int64(s.Chunks)*chunk, int64(p.SizeBytes()-p.Regions().Arena))
	meta := int64(p.DescriptorChunks(s.Chunks)) * chunk
	lost := int64(s.Chunks)*chunk - meta - used - s.FreeBytes
	require.GreaterOrEqual(b.t, lost, int64(0))
	// What a class leaves over at the end of a chunk is neither.
	require.LessOrEqual(b.t, lost, int64(s.Chunks-s.FreeChunks)*chunk/8, "space is lost")
	if len(b.live) == 0 {
		require.Zero(b.t, lost)
		require.EqualValues(b.t, int64(s.FreeChunks)*chunk, s.FreeBytes)
	}
}

func (b *blocks) alloc(size, near int, urgency pmem.Urgency) error {
	off, err := b.p.Alloc(size, near, urgency)
	if err != nil {
		require.ErrorIs(b.t, err, pmem.ErrFull)
		return err
	}
	_, twice := b.live[off]
	require.False(b.t, twice, "block %#x is in use", off)
	b.live[off] = size
	if urgency == pmem.Urgent { // may get more than it asked for, where there is nothing else
		require.GreaterOrEqual(b.t, b.p.BlockAt(off), b.p.BlockBytes(size))
	} else {
		require.Equal(b.t, b.p.BlockBytes(size), b.p.BlockAt(off))
	}
	return nil
}

func TestAllocatorProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := pmem.Geometry{Stripes: 1, ChunkBytes: 4096 << rapid.IntRange(0, 4).Draw(t, "chunk bits"), SegmentBytes: 512, IntentBytes: 4096}
		maxBytes := rapid.SampledFrom([]int{1 << 20, 3 << 20, 12 << 20}).Draw(t, "maximum")
		h := pmem.NewHeap(nil, maxBytes)
		po := pmem.Options{Geometry: g}
		open := func() *pmem.Pool {
			p, err := pmem.OpenHeap(h, po)
			require.NoError(t, err)
			return p
		}
		b := &blocks{t: t, p: open(), live: make(map[uint64]int)}
		b.p.Sweep(b.p.NewMarks())
		size := rapid.OneOf(
			rapid.IntRange(1, 300),
			rapid.IntRange(1, g.ChunkBytes),
			rapid.IntRange(g.ChunkBytes-20, g.ChunkBytes+20),
			rapid.IntRange(1, 40*g.ChunkBytes))
		anyLive := func(t *rapid.T) uint64 {
			if len(b.live) == 0 {
				t.Skip("nothing to free")
			}
			offsets := make([]uint64, 0, len(b.live))
			for off := range b.live {
				offsets = append(offsets, off)
			}
			slices.Sort(offsets)
			return rapid.SampledFrom(offsets).Draw(t, "block")
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { b.verify() },
			"alloc": func(t *rapid.T) {
				_ = b.alloc(size.Draw(t, "size"), rapid.IntRange(0, 5).Draw(t, "near"), pmem.Urgency(rapid.IntRange(0, 2).Draw(t, "urgency")))
			},
			"alloc many": func(t *rapid.T) {
				n, near := size.Draw(t, "size"), rapid.IntRange(0, 5).Draw(t, "near")
				for range rapid.IntRange(1, 60).Draw(t, "blocks") {
					if b.alloc(n, near, pmem.Usual) != nil {
						return
					}
				}
			},
			"free": func(t *rapid.T) {
				off := anyLive(t)
				delete(b.live, off)
				b.p.Free(off)
			},
			"free most": func(t *rapid.T) {
				anyLive(t)
				keep := 0
				for off := range b.live {
					if keep++; keep > 3 {
						delete(b.live, off)
						b.p.Free(off)
					}
				}
			},
			"account": func(*rapid.T) { b.account() },
			"reopen": func(t *rapid.T) {
				require.NoError(t, b.p.Close())
				b.p = open()
				late := make([]uint64, 0)
				m := b.p.NewMarks()
				for off, n := range b.live {
					fresh, err := m.Mark(off, n)
					require.NoError(t, err)
					require.True(t, fresh)
					again, err := m.Mark(off, n)
					require.NoError(t, err)
					require.False(t, again)
					require.True(t, m.Marked(off))
					if len(late) < 2 {
						late = append(late, off)
					}
				}
				require.NoError(t, m.Validate())
				for _, off := range late { // freed before the sweep: queued until then
					b.p.Free(off)
					delete(b.live, off)
				}
				b.p.Sweep(m)
				b.account()
			},
		})
		b.account()
		for off := range b.live {
			b.p.Free(off)
		}
		clear(b.live)
		b.account()
	})
}

// TestMarksRefuse: marks take nothing for a block that cannot be one.
func TestMarksRefuse(t *testing.T) {
	p, err := pmem.OpenHeap(pmem.NewHeap(nil, 1<<20), small())
	require.NoError(t, err)
	p.Sweep(p.NewMarks())
	block, err := p.Alloc(200, 0, pmem.Usual) // blocks of 208 bytes
	require.NoError(t, err)
	run, err := p.Alloc(3*4096, 0, pmem.Usual)
	require.NoError(t, err)
	r := p.Regions()
	for name, c := range map[string]struct {
		off  uint64
		size int
	}{
		"header":             {0, 1},
		"fixed parts":        {r.Control, 1},
		"descriptors":        {r.Arena, 1},
		"end of the file":    {p.SizeBytes(), 1},
		"beyond":             {1 << 60, 1},
		"inside a block":     {block + 16, 1},
		"too large":          {block, 209},
		"inside a run":       {run + 4096, 1},
		"past a run":         {run, 3*4096 + 1},
		"a chunk never used": {p.SizeBytes() - 4096, 1},
	} {
		_, err := p.NewMarksNow().Mark(c.off, c.size)
		require.Error(t, err, name)
	}
	m := p.NewMarksNow()
	for off, size := range map[uint64]int{block: 200, run: 3 * 4096} {
		fresh, err := m.Mark(off, size)
		require.NoError(t, err)
		require.True(t, fresh)
	}
	require.NoError(t, m.Validate())
	chunks, n, sizeBytes := m.Usage()
	require.Equal(t, 4, chunks)
	require.EqualValues(t, 2, n)
	require.EqualValues(t, 208+3*4096, sizeBytes)
	require.NoError(t, p.Close())
}

// TestDoubleFree: the second one is reported and has no effect.
func TestDoubleFree(t *testing.T) {
	var log bytes.Buffer
	o := small()
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	p, err := pmem.OpenHeap(pmem.NewHeap(nil, 1<<20), o)
	require.NoError(t, err)
	p.Sweep(p.NewMarks())
	keep, err := p.Alloc(100, 0, pmem.Usual)
	require.NoError(t, err)
	off, err := p.Alloc(100, 0, pmem.Usual)
	require.NoError(t, err)
	p.Free(off)
	require.Empty(t, log.String())
	before := p.Space()
	p.Free(off)
	require.Contains(t, log.String(), "twice")
	require.Equal(t, before, p.Space())
	p.Free(0, 1, p.Regions().Control, 1<<62) // no blocks: ignored
	require.Equal(t, before, p.Space())
	p.Free(keep)
	require.NoError(t, p.Close())
}

// TestAllocatorBesideItself: many goroutines, each of which writes to its blocks
// and finds them as it left them.
func TestAllocatorBesideItself(t *testing.T) {
	p, err := pmem.OpenHeap(pmem.NewHeap(nil, 8<<20), small())
	require.NoError(t, err)
	p.Sweep(p.NewMarks())
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	var wg sync.WaitGroup
	var fulls atomic.Int64
	for g := range uint64(6) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 7))
			var mine []uint64
			free := func() {
				off := mine[len(mine)-1]
				mine = mine[:len(mine)-1]
				assert.Equal(t, g<<32|off, p.Load(off), "somebody else has the block too")
				p.Store(off, 0)
				p.Free(off)
			}
			for range rounds {
				size := 16 + r.IntN(600)
				if r.IntN(20) == 0 {
					size = r.IntN(30_000) + 16
				}
				off, err := p.Alloc(size, int(g)/2, pmem.Urgency(r.IntN(3)))
				if err != nil {
					assert.ErrorIs(t, err, pmem.ErrFull)
					fulls.Add(1)
				} else {
					p.Store(off, g<<32|off)
					mine = append(mine, off)
				}
				for len(mine) > 0 && (err != nil || r.IntN(5) < 2 || len(mine) > 200) {
					free()
					err = nil
				}
			}
			for len(mine) > 0 {
				free()
			}
		})
	}
	wg.Wait()
	(&blocks{t: t, p: p}).account()
	require.NoError(t, p.Close())
}

// TestFullMedium: the file cannot grow. The request that needed it says so, with
// the operating system's reason, and changes nothing; what needs no growth goes on.
func TestFullMedium(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool")
	var full atomic.Bool
	sys := newFaulty()
	sys.allocate = func(f *os.File, from, to int64) error {
		if full.Load() {
			return &os.SyscallError{Syscall: "fallocate", Err: noSpace}
		}
		return real().Allocate(f, from, to)
	}
	o := small()
	o.System, o.Media = sys, pmem.PageCache
	p, err := pmem.Open(path, o)
	require.NoError(t, err)
	p.Sweep(p.NewMarks())
	b := &blocks{t: t, p: p, live: make(map[uint64]int)}
	require.NoError(t, b.alloc(1000, 0, pmem.Usual))
	full.Store(true)
	for err == nil {
		err = b.alloc(1000, 0, pmem.Usual)
	}
	require.ErrorIs(t, err, noSpace)
	require.ErrorContains(t, err, path)
	b.verify()
	size := p.SizeBytes()
	for range 3 {
		require.Error(t, b.alloc(1000, 0, pmem.Usual))
		require.Error(t, b.alloc(100_000, 0, pmem.Usual))
	}
	b.account()
	require.Equal(t, size, p.SizeBytes())
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, size, st.Size())
	require.NoError(t, b.alloc(1000, 0, pmem.Urgent), "the reserve is for what is urgent")
	for off := range b.live {
		delete(b.live, off)
		p.Free(off)
		break
	}
	require.NoError(t, b.alloc(1000, 0, pmem.Usual), "what was freed can be had again")
	full.Store(false)
	require.NoError(t, b.alloc(100_000, 0, pmem.Usual))
	b.verify()
	b.account()
	require.NoError(t, p.Close())
}

// TestMaximumSize: a pool may fill its maximum, to the last chunk, with blocks of
// whatever size, and says so when it has.
func TestMaximumSize(t *testing.T) {
	for _, size := range []int{100, 4096, 5000, 100_000, 400_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pool")
			p, err := pmem.Open(path, small())
			require.NoError(t, err)
			p.Sweep(p.NewMarks())
			b := &blocks{t: t, p: p, live: make(map[uint64]int)}
			for err == nil {
				err = b.alloc(size, 0, pmem.Urgent)
			}
			require.ErrorIs(t, err, pmem.ErrMaxSize)
			var fe *pmem.FullError
			require.True(t, errors.As(err, &fe))
			require.Contains(t, []int{size, p.BlockBytes(size)}, fe.SizeBytes)
			b.verify()
			b.account()
			used := 0
			for range b.live {
				used += p.BlockBytes(size)
			}
			left := int(p.MaxSizeBytes()-int64(p.Regions().Arena)) - used - p.DescriptorChunks(p.Space().Chunks)*4096
			if block := p.BlockBytes(size); block < 4096 {
				left -= p.Space().Chunks * (4096 % block) // which no block of the size fits
			}
			require.Less(t, left, p.BlockBytes(size)+2*4096, "refused although there was room")
			require.NoError(t, p.Close())
			st, err := os.Stat(path)
			require.NoError(t, err)
			require.LessOrEqual(t, st.Size(), int64(1<<20))
		})
	}
}

// TestRunTooLong: what no file can hold is refused without trying.
func TestRunTooLong(t *testing.T) {
	p, err := pmem.OpenHeap(pmem.NewHeap(nil, 1<<20), small())
	require.NoError(t, err)
	size := p.SizeBytes()
	_, err = p.Alloc(1<<30, 0, pmem.Usual)
	require.ErrorIs(t, err, pmem.ErrFull)
	require.Equal(t, size, p.SizeBytes())
	require.NoError(t, p.Close())
	_, err = pmem.Open(filepath.Join(t.TempDir(), "pool"), pmem.Options{MaxSizeBytes: 8192})
	require.ErrorIs(t, err, pmem.ErrFull)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

// TestAllocBeforeASession: nobody will say what is free, so a request that would have to
// wait for that fails; once a session has begun it waits.
func TestAllocBeforeASession(t *testing.T) {
	medium := pmem.NewHeap(nil, 8<<20)
	p, err := pmem.OpenHeap(medium, pmem.Options{})
	require.NoError(t, err)
	defer p.Close()
	_, err = p.Alloc(1<<20, 0, pmem.Usual)
	require.ErrorContains(t, err, "before a session has begun")
	require.NoError(t, p.BeginSession(0))
	done := make(chan error)
	go func() {
		_, err := p.Alloc(1<<20, 0, pmem.Usual)
		done <- err
	}()
	select {
	case err := <-done:
		require.Fail(t, "it does not wait", "%v", err)
	case <-time.After(10 * time.Millisecond):
	}
	p.GiveUpSweep()
	require.NoError(t, <-done)
}
