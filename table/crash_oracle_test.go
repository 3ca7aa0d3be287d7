package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

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
	if o.second == nil {
		return c
	}
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
	if c.Place()>>32%max(o.openEvery, 1) != 0 {
		return nil
	}
	allowed := o.allowed(c)
	if found, known := o.bench.found[c.ImageKey()]; known {
		if slices.ContainsFunc(allowed, func(s crashContent) bool { return s.print() == found.print }) {
			crashTotal.again.Add(1)
			c.Read = found.read
			return nil
		}
	}
	have, err := o.judgeImage(c, allowed)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(allowed, func(s crashContent) bool { return maps.Equal(s, have) }) {
		return errors.New(crashDifferences(have, allowed))
	}
	if c.First == nil {
		o.first = have
	}
	if o.bench.found != nil {
		o.bench.found[c.ImageKey()] = crashFound{have.print(), c.Read}
	}
	return nil
}

// judgeImage is all of the judgement that does not depend on what was acknowledged.
// It returns what the table holds after the crash; guesses save the trouble to write
// that down.
func (o *crashOracle) judgeImage(c *crashtest.Crash, guesses []crashContent) (crashContent, error) {
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
	found, err := o.inspect(&t, guesses)
	if err != nil {
		return nil, err
	}
	reads := o.bench.slotReads(t.tab, c.Image)
	if err := o.checkSpace(&t, &reads); err != nil {
		return nil, err
	}
	c.Read = o.bench.read(reads)
	if c.Place()%max(o.useEvery, 1) != 0 {
		return found, nil
	}
	turn := c.Place() / max(o.useEvery, 1)
	if err = o.use(&t, o.extra[:1]); err != nil || turn%8 > 1 {
		return found, crashUse(err)
	}
	used := maps.Clone(found)
	for _, k := range slices.Concat(o.extra[:1], o.known) {
		delete(used, string(k))
	}
	if turn%8 == 0 {
		return found, crashUse(o.fill(&t, used))
	}
	alive = false
	return found, o.reopen(&t, used, turn%16 == 1)
}

func crashUse(err error) error {
	if err != nil {
		return fmt.Errorf("use after recovery: %w", err)
	}
	return nil
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
func (o *crashOracle) inspect(t *crashTable, guesses []crashContent) (crashContent, error) {
	have, err := o.read(t, guesses)
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

// read reads the table in every way but Check. It returns one of the guesses if that is
// what the table holds.
func (o *crashOracle) read(t *crashTable, guesses []crashContent) (crashContent, error) {
	print, entries := uint64(0), 0
	for k, v := range t.tab.All() {
		print += crashPrint(k, v)
		entries++
	}
	if err := t.tab.Err(); err != nil {
		return nil, err
	}
	meta, err := t.tab.Metadata()
	if err != nil {
		return nil, err
	}
	if len(meta) > 0 {
		print += crashPrint([]byte(crashMetadata), meta)
	}
	var have crashContent
	if at := slices.IndexFunc(guesses, func(s crashContent) bool { return s.print() == print }); at >= 0 {
		have = guesses[at]
	} else if have, err = o.write(t, meta); err != nil {
		return nil, err
	}
	if n := t.tab.Len(); n != have.entries() || n != entries {
		return nil, fmt.Errorf("Len is %d of %d entries", n, entries)
	}
	for _, k := range o.known {
		v, err := t.tab.Get(k)
		want, there := have[string(k)]
		if there && (err != nil || string(v) != want) || !there && err != table.ErrNotFound {
			return nil, fmt.Errorf("Get of %s: %q, %v; All has %q, %v", k, v, err, want, there)
		}
	}
	return have, nil
}

// write writes down what the table holds.
func (o *crashOracle) write(t *crashTable, meta []byte) (crashContent, error) {
	have := crashContent{}
	for k, v := range t.tab.All() {
		if _, twice := have[string(k)]; twice {
			return nil, fmt.Errorf("key %s comes twice", k)
		}
		have[string(k)] = string(v)
	}
	if len(meta) > 0 {
		have[crashMetadata] = string(meta)
	}
	return have, t.tab.Err()
}

// checkSpace: every block is reachable or free, and not both; and what is found was born
// before the session. Only of that it is true that nobody changes it while it is marked.
// The table was not changed since it was opened. The reachable blocks are added to reads,
// except behind a log: see slotReads.
func (o *crashOracle) checkSpace(t *crashTable, reads *crashReads) error {
	p := t.tab.Pool()
	if p.Media() == pmem.PageCache {
		t.tab.MakeRoom() // commits: what only an older root reaches is free after it
	}
	p.DrainShards()
	g, logged := p.Geometry(), t.tab.LoggedSlot() != nil
	total := 0
	sizes := map[int]int{} // of blocks, by chunk
	count := func(off uint64) error {
		i := int((off - p.Regions().Arena) / uint64(g.ChunkBytes))
		size, known := sizes[i]
		if !known {
			var blocks int
			if size, blocks = crashBlocksOf(p, i); size == 0 {
				return fmt.Errorf("block %#x lies in chunk %d, which has no descriptor", off, i)
			}
			sizes[i] = size
			total += g.ChunkBytes - size*blocks // what the division leaves over
		}
		if !logged {
			reads.add(p, off, size)
		}
		total += size
		return nil
	}
	newest, err := t.tab.Reached(count)
	if err != nil {
		return err
	}
	if newest >= t.first {
		return fmt.Errorf("an object was born in epoch %d, the session began in %d", newest, t.first)
	}
	if metadata := t.tab.WorkingRoots().Metadata; metadata != 0 {
		if err := count(metadata); err != nil {
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

// use checks that the table still works: put, get, delete of some keys and of those
// that the program used.
func (o *crashOracle) use(t *crashTable, keys [][]byte) error {
	for _, k := range keys {
		if err := t.tab.Put(k, k); err != nil {
			return err
		}
	}
	for _, k := range keys {
		v, err := t.tab.Get(k)
		if err != nil || !bytes.Equal(v, k) {
			return fmt.Errorf("Get of %s: %q, %w", k, v, err)
		}
	}
	for _, k := range slices.Concat(keys[:1], o.known) {
		if err := t.tab.Delete(k); err != nil {
			return err
		}
		if there, err := t.tab.Has(k); there || err != nil {
			return fmt.Errorf("%s is there after its deletion: %v, %v", k, there, err)
		}
	}
	return nil
}

// fill uses the table with so many keys that it splits. now is what it holds before.
func (o *crashOracle) fill(t *crashTable, now crashContent) error {
	if err := o.use(t, o.extra); err != nil {
		return err
	}
	for _, k := range o.extra[1:] {
		now[string(k)] = string(k)
	}
	got, err := o.inspect(t, []crashContent{now})
	if err == nil && !maps.Equal(got, now) {
		err = fmt.Errorf("the table holds %v, not %v", got, now)
	}
	return err
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
	have, err := o.inspect(t, []crashContent{want})
	if err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	if !maps.Equal(have, want) {
		return fmt.Errorf("the second open holds %v, not %v", have, want)
	}
	return o.checkSpace(t, new(crashReads))
}
