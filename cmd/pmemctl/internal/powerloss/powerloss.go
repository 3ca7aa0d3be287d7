// Package powerloss runs random programs on a small table in memory, makes every
// image of the medium that a power loss could leave behind, and looks whether the
// table opens on it with all that was acknowledged. package recovery/crashtest does
// the work; the project's own tests do much more of it.
package powerloss

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"

	"pmemtable/internal/race"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// Medium is a kind of memory, and what a power loss takes from it.
type Medium struct {
	Name     string
	model    crashtest.Model
	media    pmem.Media
	logBytes int
}

// Media are those that promise to survive a power loss with durability Always.
var Media = []Medium{
	{"page cache", crashtest.PageCache, pmem.PageCache, 4096},
	{"persistent memory of an amd64 machine", crashtest.X86, pmem.DAX, 0},
	{"persistent memory of an arm64 machine", crashtest.ARM, pmem.DAX, 0},
}

const (
	keys      = 4
	poolBytes = 256 << 10
)

// How many operations a program has, and of how many images of a crash one is opened. One
// goroutine does it all, so that the race detector, under which everything takes ten times
// as long, sees as much in few.
var operations, openOneOf = 8, 1

func init() {
	if race.Enabled {
		operations, openOneOf = 2, 16
	}
}

// geometry is as small as can be, so that a few operations meet splits.
var geometry = pmem.Geometry{Stripes: 1, ChunkBytes: 4096, SegmentBytes: 512, IntentBytes: 4096}

// operation is a step of a program; without a value it deletes.
type operation struct {
	key   string
	value []byte
}

// Run crashes one program, made from the seed, on a medium. The error says which
// crash lost what.
func Run(ctx context.Context, m Medium, seed uint64) (crashtest.Figures, error) {
	p := program{ctx: ctx, medium: m, ops: random(seed), images: new(int)}
	image, err := p.empty()
	if err != nil {
		return crashtest.Figures{}, err
	}
	suite := crashtest.Suite{
		Image: image, Model: m.model, Workload: crashtest.WorkloadFunc(p.run), Oracle: crashtest.OracleFunc(p.judge),
		Bound: crashtest.Bound{Images: 32, Pairs: 16, Samples: 16, Seed: seed},
	}
	return suite.Run()
}

func random(seed uint64) []operation {
	r := rand.New(rand.NewPCG(seed, 1))
	ops := make([]operation, operations)
	for i := range ops {
		ops[i].key = fmt.Sprint("key ", r.IntN(keys))
		if r.IntN(4) > 0 {
			ops[i].value = bytes.Repeat([]byte{byte('a' + i)}, 1+r.IntN(300))
		}
	}
	return ops
}

type program struct {
	ctx    context.Context
	medium Medium
	ops    []operation
	images *int // so far
}

// after is the content after so many operations.
func (p program) after(n int) map[string]string {
	content := map[string]string{}
	for _, o := range p.ops[:n] {
		if o.value == nil {
			delete(content, o.key)
		} else {
			content[o.key] = string(o.value)
		}
	}
	return content
}

// pass is a hook that only performs: with one, any machine can play persistent memory.
type pass struct{}

func (pass) Store(_, _ uint64, apply func())       { apply() }
func (pass) Copy(_ uint64, _ []byte, apply func()) { apply() }
func (pass) WriteBack(uint64, int)                 {}
func (pass) Drain()                                {}
func (pass) Sync(apply func() error) error         { return apply() }

// with opens the table on a heap, and closes it.
func (p program) with(heap *pmem.Heap, hook pmem.Hook, fn func(t *table.Table) error) error {
	g := geometry
	g.LogBytes = p.medium.logBytes
	pool, err := pmem.OpenHeap(heap, pmem.Options{Geometry: g, Media: p.medium.media, Hook: hook})
	if err != nil {
		return err
	}
	t, err := table.OpenPool(pool, &table.Options{Durability: table.Always})
	if err != nil {
		return err
	}
	<-pool.Swept()
	return errors.Join(fn(t), t.Close())
}

// empty is a table that was closed in order, with room for all that will be stored:
// the medium of a trace does not grow.
func (p program) empty() ([]byte, error) {
	heap := pmem.NewHeap(nil, poolBytes)
	err := p.with(heap, pass{}, func(*table.Table) error { return nil })
	image := heap.State()
	return append(image, make([]byte, poolBytes-len(image))...), err
}

// run is the program, under the tracer.
func (p program) run(t *crashtest.Tracer) ([]byte, error) {
	heap := pmem.NewHeap(t.Image(), poolBytes)
	err := p.with(heap, t, func(tab *table.Table) error {
		for i, o := range p.ops {
			t.Begin(i)
			var err error
			if o.value == nil {
				err = tab.Delete([]byte(o.key))
			} else {
				err = tab.Put([]byte(o.key), o.value)
			}
			t.Ack(i)
			if err != nil {
				return fmt.Errorf("operation %d: %w", i, err)
			}
		}
		return nil
	})
	return heap.State(), err
}

// judge opens what a crash left as a user would.
func (p program) judge(c *crashtest.Crash) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if *p.images++; *p.images%openOneOf != 0 {
		return nil
	}
	heap := pmem.NewHeap(c.Image, poolBytes)
	heap.Reboot()
	return p.with(heap, pass{}, func(t *table.Table) error {
		if _, err := t.Check(); err != nil {
			return err
		}
		have := map[string]string{}
		for key, value := range t.All() {
			have[string(key)] = string(value)
		}
		if err := t.Err(); err != nil {
			return err
		}
		for n := len(c.Acked); n <= len(c.Acked)+len(c.Pending); n++ {
			if maps.Equal(have, p.after(n)) {
				return nil
			}
		}
		return fmt.Errorf("%d entries, which are those after neither %d nor %d operations", len(have), len(c.Acked), len(c.Acked)+len(c.Pending))
	})
}
