package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/zeebo/xxh3"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// The crash suite. A crashProgram of a few operations runs once on a small pool whose
// stores are traced; package crashtest makes every image that a crash may leave;
// the oracle here opens each as a user would and compares it with the model, a map.

// crashSetup is a medium and what a crash of it loses.
type crashSetup struct {
	name       string
	model      crashtest.Model
	media      pmem.Media
	reboots    bool // the crash takes the machine with it
	durability table.Durability
	logBytes   int // of the log, 0 for none
	inline     bool
}

var (
	crashX86         = crashSetup{"x86", crashtest.X86, pmem.DAX, false, table.Always, 0, false}
	crashARM         = crashSetup{"arm", crashtest.ARM, pmem.DAX, false, table.Always, 0, false}
	crashCache       = crashSetup{"cache", crashtest.PageCache, pmem.Auto, true, table.Always, 0, false}
	crashLog         = crashSetup{"cache-log", crashtest.PageCache, pmem.Auto, true, table.Always, layout.MinLogBytes, false}
	crashCacheOnSync = crashSetup{"cache-onsync", crashtest.PageCache, pmem.Auto, true, table.OnSync, 0, false}
	crashKilled      = crashSetup{"cache-kill", crashtest.Kill, pmem.Auto, false, table.OnSync, 0, false}
	crashTmpfs       = crashSetup{"tmpfs-kill", crashtest.Kill, pmem.Tmpfs, false, table.Always, 0, false}
	crashSetups      = []crashSetup{crashX86, crashARM, crashCache, crashLog, crashCacheOnSync, crashKilled, crashTmpfs}

	// The same of tables of inline entries.
	crashInline       = crashX86.ofInline()
	crashInlineARM    = crashARM.ofInline()
	crashInlineCache  = crashCache.ofInline()
	crashInlineLog    = crashLog.ofInline()
	crashInlineSetups = []crashSetup{crashInline, crashInlineARM, crashInlineCache, crashInlineLog,
		crashCacheOnSync.ofInline(), crashKilled.ofInline(), crashTmpfs.ofInline()}
)

func (s crashSetup) ofInline() crashSetup {
	s.name, s.inline = "inline-"+s.name, true
	return s
}

// crashPassHook performs stores and does nothing else: with a hook, a build without
// flush instructions can pass for persistent memory.
type crashPassHook struct{}

func (crashPassHook) Store(_, _ uint64, apply func())       { apply() }
func (crashPassHook) Copy(_ uint64, _ []byte, apply func()) { apply() }
func (crashPassHook) WriteBack(uint64, int)                 {}
func (crashPassHook) Drain()                                {}
func (crashPassHook) Sync(apply func() error) error         { return apply() }
func crashGeometry(stripes int) pmem.Geometry {
	return pmem.Geometry{Stripes: stripes, ChunkBytes: 4096, SegmentBytes: 512, IntentBytes: 4096}
}

// geometry is that of the setup's pools.
func (s crashSetup) geometry(stripes int) pmem.Geometry {
	g := crashGeometry(stripes)
	g.LogBytes = s.logBytes
	if s.inline {
		g.Inline, g.Stripes = true, max(stripes, layout.MinInlineStripes)
	}
	return g
}

const crashSeed = 1

// maxBytes is the size of the setup's pools: eleven pages, the log, and 16 chunks.
func (s crashSetup) maxBytes() int { return 27*layout.PageBytes + s.logBytes }

// crashEmptyImage is a new, cleanly closed pool with a known seed and room for chunks
// that need not grow.
func crashEmptyImage(s crashSetup, stripes int) []byte {
	g := s.geometry(stripes)
	h := pmem.NewHeap(nil, 1<<20)
	p, err := pmem.OpenHeap(h, pmem.Options{Geometry: g, Media: s.media, Hook: crashPassHook{}})
	if err != nil {
		panic(err)
	}
	_ = p.Close()
	image := h.State()
	header, err := layout.DecodeHeader(image[:layout.PageBytes])
	if err != nil {
		panic(err)
	}
	header.HashSeed, header.UUID, header.CreatedUnix = crashSeed, [16]byte{1}, 1
	page := make([]byte, layout.PageBytes)
	header.Encode(page)
	copy(image, page)
	return append(image, make([]byte, s.maxBytes()-len(image))...)
}

// crashFillFreeSpace makes a new pool's free space anything but zero: nothing may
// depend on it, chunk descriptors of free chunks included.
func crashFillFreeSpace(s crashSetup, image []byte) []byte {
	for i := int(s.geometry(1).Regions().Arena); i < len(image); i++ {
		image[i] = byte(0xa5 + i)
	}
	return image
}

// crashKeys finds n keys of stripe 0 that share one home line and whose hashes,
// after the stripe's bits, begin with prefix.
func crashKeys(stripes, n int, prefix string) [][]byte { return crashKeysAt(stripes, n, 0, prefix) }

func crashKeysAt(stripes, n, home int, prefix string) [][]byte {
	g := crashGeometry(stripes)
	var keys [][]byte
	for i := 0; len(keys) < n; i++ {
		key := fmt.Appendf(nil, "k%07d", i)
		hash := xxh3.HashSeed(key, crashSeed)
		bits := fmt.Sprintf("%064b", hash)[g.StripeBits():]
		if layout.StripeOf(hash, g.StripeBits()) == 0 && layout.HomeLine(hash, g.Lines()) == home && strings.HasPrefix(bits, prefix) {
			keys = append(keys, key)
		}
	}
	return keys
}

// keysAt is crashKeysAt for the setup's form of entries.
func (s crashSetup) keysAt(stripes, n, home int, prefix string) [][]byte {
	if s.inline {
		return crashInlineKeys(0, n, home, prefix)
	}
	return crashKeysAt(stripes, n, home, prefix)
}

// crashInlineKeys are n inline keys of a stripe of 16 that share one probe, and whose
// hashes, after the stripe's bits, begin with prefix.
func crashInlineKeys(stripe, n, home int, prefix string) [][]byte {
	g := crashInline.geometry(1)
	return inlineKeys(layout.NewInlineMap(g, crashSeed), g, stripe, n, home, prefix)
}

// inlineKeys are n keys of a stripe that share one probe, which begins at a line, and
// whose hashes, after the stripe's bits, begin with prefix.
func inlineKeys(m *layout.InlineMap, g pmem.Geometry, stripe, n, home int, prefix string) (keys [][]byte) {
	const bits = 48 // of what a slot keeps, below the stripe's bits of the hash
	id := uint64(0)
	for i, c := range prefix {
		id |= uint64(c-'0') << (bits - 1 - i)
	}
	id |= uint64(3<<8|home+1) << g.StripeBits() // as ProbeInline has it
	for i := range uint64(n) {
		middle := (i + 1) * 0x9e3779b97f4a7c15 >> (64 - bits + len(prefix)) >> 28 << 28
		key, ok := m.Key(stripe, (id|middle)<<layout.InlineFlagBits)
		if !ok {
			panic("no such key")
		}
		keys = append(keys, binary.LittleEndian.AppendUint64(nil, key))
	}
	return keys
}

// crashKind is an operation of a program.
type crashKind int

const (
	crashPut crashKind = iota
	crashDelete
	crashSwap // CompareAndSwap of what is there
	crashMiss // CompareAndSwap that fails
	crashClear
	crashSync
	crashReopen   // Close and open
	crashCut      // Check, which cuts an epoch
	crashBatch    // one key is stored, another deleted, metadata set
	crashSnapshot // a put while a snapshot is open
	crashMany     // PutMany of two keys
	crashCompact
)

type crashOp struct {
	kind  crashKind
	key   []byte
	value []byte
	other []byte // the second key of a batch and of PutMany
	waits bool   // for the background work that it begins
	aside bool   // by another goroutine, whose drains say nothing about this one's
}

func (o crashOp) String() string {
	name := [...]string{"put", "del", "cas", "miss", "clear", "sync", "reopen", "cut", "batch", "snap", "many", "compact"}[o.kind]
	if o.key != nil {
		name += fmt.Sprintf("(%q)", strings.TrimLeft(string(o.key), "k0"))
	}
	return name
}

// crashMetadata is the metadata's place in the model.
const crashMetadata = "metadata"

// crashContent is the model of a table.
type crashContent map[string]string

// after is the model after an operation.
func (c crashContent) after(o crashOp) crashContent {
	n := maps.Clone(c)
	if n == nil {
		n = crashContent{}
	}
	_, there := n[string(o.key)]
	switch {
	case o.kind == crashPut, o.kind == crashSnapshot, o.kind == crashSwap && there:
		n[string(o.key)] = string(o.value)
	case o.kind == crashBatch:
		n[string(o.key)] = string(o.value)
		n[crashMetadata] = string(o.value)
		delete(n, string(o.other))
	case o.kind == crashMany:
		n[string(o.key)] = string(o.value)
		n[string(o.other)] = string(o.value)
	case o.kind == crashDelete:
		delete(n, string(o.key))
	case o.kind == crashClear:
		maps.DeleteFunc(n, func(k, _ string) bool { return k != crashMetadata })
	}
	return n
}

// print is a hash of the content.
func (c crashContent) print() (sum uint64) {
	for k, v := range c {
		sum += xxh3.HashStringSeed(v, xxh3.HashString(k))
	}
	return sum
}

// crashPrint is what an entry adds to the print of a content.
func crashPrint(key, value []byte) uint64 { return xxh3.HashSeed(value, xxh3.Hash(key)) }

// entries is what Len says.
func (c crashContent) entries() int {
	if _, there := c[crashMetadata]; there {
		return len(c) - 1
	}
	return len(c)
}

// crashTable is a table under test, on a heap.
type crashTable struct {
	setup crashSetup
	heap  *pmem.Heap
	hook  pmem.Hook
	tab   *table.Table
	first uint64 // the epoch in which the session began
	// beside: marking is done beside the callers, by another goroutine, which costs more
	// than all else of an open. What is crashed is done so, what is judged at once.
	beside bool
}

func (c *crashTable) open() error {
	p, err := pmem.OpenHeap(c.heap, pmem.Options{Media: c.setup.media, Hook: c.hook})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := c.openPool(p); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := c.judgeOpen(); err != nil {
		c.tab.Die() // the bench's medium is used again
		return err
	}
	return nil
}

// judgeOpen waits for what an open leaves to the background, and looks at it.
func (c *crashTable) judgeOpen() error {
	c.first = c.tab.Epoch()
	<-c.tab.Pool().Swept()
	c.tab.Len() // waits for the count
	if err := c.tab.MarkError(); err != nil {
		return fmt.Errorf("recovery found damage: %w", err)
	}
	return nil
}

func (c *crashTable) openPool(p *pmem.Pool) (err error) {
	o := &table.Options{Durability: c.setup.durability}
	if c.beside {
		o = table.MarkBeside(o)
	}
	c.tab, err = table.OpenPool(p, o)
	return err
}

func (c *crashTable) do(o crashOp, now crashContent) error {
	if o.aside {
		o.aside = false
		done := make(chan error)
		go func() { done <- c.do(o, now) }()
		return <-done
	}
	var err error
	switch o.kind {
	case crashPut:
		err = c.tab.Put(o.key, o.value)
	case crashDelete:
		err = c.tab.Delete(o.key)
	case crashSwap:
		old, there := now[string(o.key)]
		done, e := c.tab.CompareAndSwap(o.key, []byte(old), o.value)
		if err = e; err == nil && done != there {
			err = fmt.Errorf("compare and swap of %s: %v", o.key, done)
		}
	case crashMiss:
		done, e := c.tab.CompareAndSwap(o.key, []byte("never"), o.value)
		if err = e; done {
			err = errors.New("compare and swap with a wrong value")
		}
	case crashClear:
		if err = c.tab.Clear(); o.waits {
			c.tab.WaitCleared()
		}
	case crashSync:
		err = c.tab.Sync()
	case crashCut:
		_, err = c.tab.Check()
	case crashBatch:
		b := table.NewBatch()
		b.Put(o.key, o.value)
		b.Delete(o.other)
		b.SetMetadata(o.value)
		err = c.tab.Apply(b)
	case crashSnapshot:
		var snap *table.Snapshot
		if snap, err = c.tab.Snapshot(); err == nil {
			err = c.tab.Put(o.key, o.value)
			if n := snap.Len(); n != now.entries() {
				err = fmt.Errorf("the snapshot has %d entries, not %d", n, now.entries())
			}
			err = errors.Join(err, snap.Close())
		}
	case crashMany:
		err = c.tab.PutMany([][]byte{o.key, o.other}, [][]byte{o.value, o.value})
	case crashCompact:
		err = c.tab.Compact()
	case crashReopen:
		if err = c.tab.Close(); err == nil {
			err = c.open()
		}
	}
	return err
}

// crashProgram is a Workload: it opens the table and runs the operations.
type crashProgram struct {
	setup crashSetup
	// settled: what the open has stored and never drains, the stripes' versions, is
	// durable. With the many stripes of inline entries it hides what the operations do.
	settled bool
	start   crashContent // what the image holds
	ops     []crashOp
}

func (p crashProgram) String() string {
	var names []string
	for _, o := range p.ops {
		names = append(names, o.String())
	}
	return strings.Join(names, " ")
}

func (p crashProgram) Run(t *crashtest.Tracer) ([]byte, error) {
	image := t.Image()
	heap := pmem.NewHeap(image, p.setup.maxBytes())
	c := crashTable{setup: p.setup, heap: heap, hook: t, beside: true}
	if err := c.open(); err != nil {
		return nil, err
	}
	if p.settled {
		g := p.setup.geometry(1)
		c.tab.Pool().Persist(pmem.Range{Offset: g.Regions().Versions, Bytes: g.Stripes * layout.LineBytes})
	}
	now := p.start
	for i, o := range p.ops {
		t.Begin(i)
		err := c.do(o, now)
		t.Ack(i)
		if err != nil {
			c.tab.Die()
			return nil, fmt.Errorf("%v: %w", o, err)
		}
		now = now.after(o)
	}
	c.tab.Die()
	return heap.State(), nil
}

// crashImageAfter runs a program without a crash and returns the medium, closed in
// order.
func crashImageAfter(s crashSetup, image []byte, ops []crashOp) []byte {
	c := crashTable{setup: s, heap: pmem.NewHeap(image, s.maxBytes()), hook: crashPassHook{}}
	err := c.open()
	now := crashContent{}
	for _, o := range ops {
		if err == nil {
			err = c.do(o, now)
		}
		now = now.after(o)
	}
	if err = errors.Join(err, c.tab.Close()); err != nil {
		panic(err)
	}
	return c.heap.State()
}

// crashBench is a heap that takes one image after the other: making a new one for
// each would cost more than the judgement.
type crashBench struct {
	heap   *pmem.Heap
	writer *pmem.Pool // only for its Copy
	setup  crashSetup
	// found, unless nil, is what each image held that was judged good, for oracles of
	// one initial image that look up the same keys and crash no recovery: a second
	// judgement could only find the same, so the next time only what it holds is
	// compared.
	found map[uint64]crashFound
	reads map[crashReads]func(line uint64) bool
}

// crashFound is what a judgement found in an image: the print of its content, and what
// it read.
type crashFound struct {
	print uint64
	read  func(line uint64) bool
}

func (b *crashBench) load(image []byte) *pmem.Heap {
	// Only a medium that cannot grow is used again: growth is in the background.
	if most := b.setup.maxBytes(); b.heap == nil || len(image) != most || b.writer.SizeBytes() != uint64(most) {
		b.heap = pmem.NewHeap(image, most)
		if b.setup.reboots {
			b.heap.Reboot() // once: the number wraps around
		}
		p, err := pmem.OpenHeap(b.heap, pmem.Options{Media: pmem.Tmpfs})
		if err != nil {
			panic(err) // a damaged header or session record
		}
		b.writer = p
		b.heap.Abandon()
		return b.heap
	}
	now := b.writer.Bytes(0, len(image))
	for i := 0; i < len(image); i += layout.PageBytes {
		end := min(i+layout.PageBytes, len(image))
		if bytes.Equal(now[i:end], image[i:end]) {
			continue
		}
		for j := i; j < end; j += 256 {
			if end := min(j+256, end); !bytes.Equal(now[j:end], image[j:end]) {
				b.writer.Copy(uint64(j), image[j:end])
			}
		}
	}
	return b.heap
}
