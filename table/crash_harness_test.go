package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
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
}

var (
	crashX86         = crashSetup{"x86", crashtest.X86, pmem.DAX, false, table.Always, 0}
	crashARM         = crashSetup{"arm", crashtest.ARM, pmem.DAX, false, table.Always, 0}
	crashCache       = crashSetup{"cache", crashtest.PageCache, pmem.Auto, true, table.Always, 0}
	crashLog         = crashSetup{"cache-log", crashtest.PageCache, pmem.Auto, true, table.Always, layout.MinLogBytes}
	crashCacheOnSync = crashSetup{"cache-onsync", crashtest.PageCache, pmem.Auto, true, table.OnSync, 0}
	crashKilled      = crashSetup{"cache-kill", crashtest.Kill, pmem.Auto, false, table.OnSync, 0}
	crashTmpfs       = crashSetup{"tmpfs-kill", crashtest.Kill, pmem.Tmpfs, false, table.Always, 0}
	crashSetups      = []crashSetup{crashX86, crashARM, crashCache, crashLog, crashCacheOnSync, crashKilled, crashTmpfs}
)

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
	header.HashSeed, header.UUID = crashSeed, [16]byte{1}
	page := make([]byte, layout.PageBytes)
	header.Encode(page)
	copy(image, page)
	return append(image, make([]byte, s.maxBytes()-len(image))...)
}

// crashFillFreeSpace makes a new pool's free space anything but zero: nothing may
// depend on it, chunk descriptors of free chunks included.
func crashFillFreeSpace(s crashSetup, image []byte) []byte {
	for i := int(layout.Geometry(s.geometry(1)).Regions().Arena); i < len(image); i++ {
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
		name += "(" + strings.TrimLeft(string(o.key), "k0") + ")"
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
	first := c.tab.Epoch()
	<-c.tab.Pool().Swept()
	c.tab.Len() // waits for the count
	// What is found is frozen while it is marked, which holds only of what was born
	// before the session.
	if newest, err := c.tab.NewestBirth(); err != nil || newest >= first {
		return fmt.Errorf("an object was born in epoch %d, the session began in %d: %w", newest, first, err)
	}
	if s := c.tab.Stats(); s.Damage != "" {
		return errors.New("recovery found damage: " + s.Damage)
	}
	return nil
}

func (c *crashTable) openPool(p *pmem.Pool) (err error) {
	c.tab, err = table.OpenPool(p, &table.Options{Durability: c.setup.durability})
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
	start crashContent // what the image holds
	ops   []crashOp
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
	c := crashTable{setup: p.setup, heap: heap, hook: t}
	if err := c.open(); err != nil {
		return nil, err
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

// crashOracle judges images against the model of a program.
type crashOracle struct {
	setup  crashSetup
	ops    []crashOp
	states []crashContent // states[i] is the model after i operations
	floors []int          // floors[i]: what i acknowledged operations guarantee
	known  [][]byte       // keys that are looked up
	extra  [][]byte       // keys that are not in the crashProgram
	bench  *crashBench
	// openEvery: one image in so many is judged; 0 for all.
	openEvery uint64
	// useEvery: the table is used after so many of the recoveries; 0 for all.
	useEvery uint64
	first    crashContent     // of the last crash that was not inside recovery
	second   *crashSecondLife // of a process that went on after a kill
}

// newCrashOracle is the oracle of a program of operations that are numbered from 0.
func newCrashOracle(p crashProgram, extra [][]byte, bench *crashBench) *crashOracle {
	o := &crashOracle{setup: p.setup, ops: p.ops, states: []crashContent{p.start}, floors: []int{0}, extra: extra, bench: bench}
	now, floor := p.start, 0
	for i, op := range p.ops {
		now = now.after(op)
		o.states = append(o.states, now)
		lazy := p.setup.reboots && p.setup.durability != table.Always
		if !lazy || op.kind == crashSync || op.kind == crashReopen {
			floor = i + 1
		}
		o.floors = append(o.floors, floor)
		if op.key != nil {
			o.known = append(o.known, op.key)
		}
	}
	return o
}

// allowed are the states that a crash may leave.
func (o *crashOracle) allowed(c *crashtest.Crash) []crashContent {
	if c.First != nil { // recovery changes nothing, and then puts a key
		with := maps.Clone(o.first)
		with[string(o.extra[0])] = string(o.extra[0])
		return []crashContent{o.first, with}
	}
	if o.second != nil {
		return o.second.allowedAfter(c, o.statesOf(c))
	}
	return o.statesOf(c)
}

func (o *crashOracle) statesOf(c *crashtest.Crash) []crashContent {
	c = o.ofFirstLife(c)
	last := len(c.Acked) + len(c.Pending)
	states := slices.Clip(o.states[o.floors[len(c.Acked)] : last+1])
	if len(c.Pending) > 0 && o.ops[last-1].kind == crashMany { // each key by itself
		for _, key := range [][]byte{o.ops[last-1].key, o.ops[last-1].other} {
			one := crashOp{kind: crashPut, key: key, value: o.ops[last-1].value}
			states = append(states, o.states[last-1].after(one))
		}
	}
	return states
}

// ofFirstLife leaves the operations of the second life out.
func (o *crashOracle) ofFirstLife(c *crashtest.Crash) *crashtest.Crash {
	f := *c
	later := func(op int) bool { return op >= crashObserved }
	f.Acked = slices.DeleteFunc(slices.Clone(c.Acked), later)
	f.Pending = slices.DeleteFunc(slices.Clone(c.Pending), later)
	return &f
}

// crashDifferences says how a content differs from the allowed ones.
func crashDifferences(have crashContent, allowed []crashContent) string {
	var b strings.Builder
	for _, want := range allowed {
		b.WriteString("; of what is allowed:")
		for k, v := range want {
			if got, there := have[k]; got != v {
				fmt.Fprintf(&b, " %s is %q (%v) not %q", k, got, there, v)
			}
		}
		for k, v := range have {
			if _, there := want[k]; !there {
				fmt.Fprintf(&b, " %s is %q but should not be", k, v)
			}
		}
	}
	return b.String()[2:]
}

func (o *crashOracle) Judge(c *crashtest.Crash) error {
	if c.Key()>>32%max(o.openEvery, 1) != 0 {
		return nil
	}
	if print, known := o.bench.found[c.ImageKey()]; known {
		if slices.ContainsFunc(o.allowed(c), func(s crashContent) bool { return s.print() == print }) {
			crashTotal.again.Add(1)
			return nil
		}
	}
	have, err := o.judgeImage(c)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(o.allowed(c), func(s crashContent) bool { return maps.Equal(s, have) }) {
		return errors.New(crashDifferences(have, o.allowed(c)))
	}
	if c.First == nil {
		o.first = have
	}
	if o.bench.found != nil {
		o.bench.found[c.ImageKey()] = have.print()
	}
	return nil
}

// judgeImage is all of the judgement that does not depend on what was acknowledged.
// It returns what the table holds after the crash.
func (o *crashOracle) judgeImage(c *crashtest.Crash) (crashContent, error) {
	t := crashTable{setup: o.setup, heap: o.bench.load(c.Image), hook: crashOracleHook()}
	if err := t.open(); err != nil {
		return nil, err
	}
	alive := true
	defer func() {
		if alive {
			t.tab.Die()
		}
	}()
	found, err := o.inspect(&t)
	if err != nil {
		return nil, err
	}
	if err := o.checkSpace(t.tab); err != nil {
		return nil, err
	}
	if c.Key()%max(o.useEvery, 1) != 0 {
		return found, nil
	}
	turn := c.Key() / max(o.useEvery, 1)
	used, err := o.use(&t, found, turn%8 == 0)
	if err != nil {
		return nil, fmt.Errorf("use after recovery: %w", err)
	}
	if turn%8 != 1 {
		return found, nil
	}
	alive = false
	return found, o.reopen(&t, used, turn%16 == 1)
}

// crashOracleHook: the oracle's own stores need no hook, except where persistent
// memory cannot be had without.
func crashOracleHook() pmem.Hook {
	if canFlush() {
		return nil
	}
	return crashPassHook{}
}

// inspect reads the table in every way and checks that all agree.
func (o *crashOracle) inspect(t *crashTable) (crashContent, error) {
	have, err := o.read(t)
	if err != nil {
		return nil, err
	}
	report, err := t.tab.Check()
	if err != nil {
		return nil, err
	}
	if report.Entries != have.entries() {
		return nil, fmt.Errorf("Check has %d of %d entries", report.Entries, len(have))
	}
	return have, nil
}

// read reads the table in every way but Check.
func (o *crashOracle) read(t *crashTable) (crashContent, error) {
	have := crashContent{}
	for k, v := range t.tab.All() {
		if _, twice := have[string(k)]; twice {
			return nil, fmt.Errorf("key %s comes twice", k)
		}
		have[string(k)] = string(v)
	}
	if err := t.tab.Err(); err != nil {
		return nil, err
	}
	if n := t.tab.Len(); n != len(have) {
		return nil, fmt.Errorf("Len is %d of %d entries", n, len(have))
	}
	for _, k := range o.known {
		v, err := t.tab.Get(k)
		want, there := have[string(k)]
		if there && (err != nil || string(v) != want) || !there && err != table.ErrNotFound {
			return nil, fmt.Errorf("Get of %s: %q, %v; All has %q, %v", k, v, err, want, there)
		}
	}
	meta, err := t.tab.Metadata()
	if len(meta) > 0 {
		have[crashMetadata] = string(meta)
	}
	if err != nil {
		return nil, err
	}
	return have, nil
}

// checkSpace: every block is reachable or free, and not both.
func (o *crashOracle) checkSpace(tab *table.Table) error {
	p := tab.Pool()
	if p.Media() == pmem.PageCache {
		tab.MakeRoom() // commits: what only an older root reaches is free after it
	}
	p.DrainShards()
	g := p.Geometry()
	total := 0
	used := map[int]bool{}
	count := func(off uint64) error {
		i := int((off - p.Regions().Arena) / uint64(g.ChunkBytes))
		size, blocks := crashBlocksOf(p, i)
		if size == 0 {
			return fmt.Errorf("block %#x lies in chunk %d, which has no descriptor", off, i)
		}
		total += size
		if !used[i] {
			used[i] = true
			total += g.ChunkBytes - size*blocks // what the division leaves over
		}
		return nil
	}
	roots := tab.WorkingRoots()
	if err := recovery.Blocks(p, roots, count); err != nil {
		return err
	}
	if roots.Metadata != 0 {
		if err := count(roots.Metadata); err != nil {
			return err
		}
	}
	space := p.Space()
	for i := range space.Chunks {
		if g.HoldsDescriptors(i) {
			total += g.ChunkBytes
		}
	}
	if want := space.Chunks * g.ChunkBytes; total+int(space.FreeBytes) != want {
		return fmt.Errorf("%d bytes are reachable and %d free, of %d", total, space.FreeBytes, want)
	}
	return nil
}

var crashClasses = layout.NewClasses(4096)

// crashBlocksOf is the size and number of the blocks of a chunk.
func crashBlocksOf(p *pmem.Pool, chunk int) (size, count int) {
	at, offset := p.Geometry().DescriptorPlace(chunk)
	word := p.Load(p.Regions().Arena + uint64(at*p.Geometry().ChunkBytes) + offset)
	d, ok := layout.DecodeDescriptor(word, chunk)
	if !ok || d.Kind != layout.ChunkSmall {
		return 0, 0
	}
	size = crashClasses.Sizes[d.Class]
	return size, p.Geometry().ChunkBytes / size
}

// use checks that the table still works: put, get, delete, and enough puts to
// split when much.
func (o *crashOracle) use(t *crashTable, have crashContent, much bool) (crashContent, error) {
	now := maps.Clone(have)
	keys := o.extra[:1]
	if much {
		keys = o.extra
	}
	for _, k := range keys {
		if err := t.tab.Put(k, k); err != nil {
			return nil, err
		}
		now[string(k)] = string(k)
	}
	for _, k := range keys {
		v, err := t.tab.Get(k)
		if err != nil || !bytes.Equal(v, k) {
			return nil, fmt.Errorf("Get of %s: %q, %w", k, v, err)
		}
	}
	for _, k := range slices.Concat(keys[:1], o.known) {
		if err := t.tab.Delete(k); err != nil {
			return nil, err
		}
		if there, err := t.tab.Has(k); there || err != nil {
			return nil, fmt.Errorf("%s is there after its deletion: %v, %v", k, there, err)
		}
		delete(now, string(k))
	}
	if !much {
		return now, nil
	}
	got, err := o.inspect(t)
	if err == nil && !maps.Equal(got, now) {
		err = fmt.Errorf("the table holds %v, not %v", got, now)
	}
	return now, err
}

// reopen ends the table, by a Close or by a kill, and looks again.
func (o *crashOracle) reopen(t *crashTable, want crashContent, kill bool) error {
	if kill {
		t.tab.Die()
	} else if err := t.tab.Close(); err != nil {
		return err
	}
	if err := t.open(); err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	defer t.tab.Die()
	have, err := o.inspect(t)
	if err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	if !maps.Equal(have, want) {
		return fmt.Errorf("the second open holds %v, not %v", have, want)
	}
	return o.checkSpace(t.tab)
}

// crashBench is a heap that takes one image after the other: making a new one for
// each would cost more than the judgement.
type crashBench struct {
	heap   *pmem.Heap
	writer *pmem.Pool // only for its Copy
	setup  crashSetup
	// found, unless nil, is the print of what each image held that was judged good,
	// for oracles of one initial image that look up the same keys and crash no
	// recovery: a second judgement could only find the same, so the next time only
	// what it holds is compared.
	found map[uint64]uint64
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
