package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: an acknowledged write that is not there after
// kill -9, or a file that the kill left damaged. A child process writes and
// acknowledges every operation through a pipe; the parent kills it at a random
// one, opens the file, and compares. Between the two it may kill children that
// only open the file: that must change nothing. All rounds of a case use the same
// file, so that what one leaves behind meets the next.

// Both sides know what operation i of a writer is: so the parent knows the one
// that was under way too.

const (
	killEnv      = "PMEMTABLE_TEST_KILL" // the case and the round, for the child
	killKeys     = 300                   // of each writer
	killCounters = 3                     // that all writers add to by compare-and-swap
)

// killCase is how the file is used, in all rounds.
type killCase struct {
	name       string
	media      pmem.Media
	durability table.Durability
	geometry   pmem.Geometry
	shm        bool
	writers    int // one may clear, two have keys of their own and share counters
	acks       int // at most, in a round
}

func killCases() []killCase {
	cases := []killCase{
		{"page cache", pmem.Auto, table.OnSync, tiny(2), false, 2, 400},
		{"page cache, always", pmem.Auto, table.Always, tiny(2), false, 2, 40},
		{"page cache, clearing", pmem.Auto, table.OnSync, tiny(4), false, 1, 300},
		{"shared memory", pmem.Auto, table.OnSync, pmem.Geometry{Stripes: 4}, true, 2, 400},
		{"shared memory, clearing", pmem.Auto, table.OnSync, tiny(1), true, 1, 400},
		{"inline, page cache", pmem.Auto, table.OnSync, tinyInline(), false, 2, 400},
		{"inline, page cache, always", pmem.Auto, table.Always, tinyInline(), false, 2, 40},
		{"inline, shared memory", pmem.Auto, table.OnSync, tinyInline(), true, 1, 400},
	}
	if canFlush() {
		cases = append(cases,
			killCase{"forced DAX", pmem.DAX, table.Always, tiny(2), false, 2, 400},
			killCase{"forced DAX, default geometry", pmem.DAX, table.Always, pmem.Geometry{Stripes: 2}, false, 2, 400},
			killCase{"forced DAX, clearing", pmem.DAX, table.Always, tiny(2), false, 1, 300},
			killCase{"inline, forced DAX", pmem.DAX, table.Always, tinyInline(), false, 2, 400},
			killCase{"inline, forced DAX, clearing", pmem.DAX, table.Always, tinyInline(), false, 1, 300})
	}
	return cases
}

func (c *killCase) open(path string, readOnly bool) (*table.Table, error) {
	p, err := pmem.Open(path, pmem.Options{Geometry: c.geometry, Media: c.media, ReadOnly: readOnly, MaxSizeBytes: 1 << 30})
	if err != nil {
		return nil, err
	}
	return table.OpenPool(p, &table.Options{Durability: c.durability})
}

// killOp is one operation of a writer.
type killOp struct {
	kind  byte // 'p'ut 'd'elete 'c'ompare-and-swap 'n': one that must fail 'C'lear 's'ync 'a'dd to a counter
	key   uint32
	units int // of the value
}

func (c *killCase) op(round uint64, writer, i uint32) killOp {
	r := rand.New(rand.NewPCG(round, uint64(writer)<<32|uint64(i)))
	o := killOp{key: writer*killKeys + r.Uint32N(killKeys), units: 1 + r.IntN(12)}
	switch n := r.IntN(100); {
	case n < 50:
		o.kind = 'p'
	case n < 70:
		o.kind = 'd'
	case n < 80:
		o.kind = 'c'
	case n < 84:
		o.kind = 'n'
	case n < 85 && c.writers == 1:
		o.kind = 'C'
	case n < 86:
		o.kind = 's'
	case n < 88:
		o.kind, o.units = 'p', 1000+r.IntN(4000) // a run of chunks
	case c.writers > 1:
		o.kind, o.key = 'a', 1<<16+r.Uint32N(killCounters)
	default:
		o.kind = 'p'
	}
	return o
}

func (c *killCase) key(k uint32) []byte {
	if c.geometry.Inline {
		return inlineBytes(uint64(k))
	}
	return fmt.Appendf(nil, "key %d", k)
}

// told and readTold are those of values that say whose they are; of eight bytes inline.
func (c *killCase) told(k, version uint32, n int) []byte {
	if c.geometry.Inline {
		return inlineBytes(uint64(k)<<32 | uint64(version))
	}
	return told(k, version, n)
}

func (c *killCase) readTold(k uint32, b []byte) (version uint32, err error) {
	if !c.geometry.Inline {
		return readTold(k, b)
	}
	if n := binary.LittleEndian.Uint64(b); n>>32 != uint64(k) || uint32(n) == 0 {
		err = fmt.Errorf("key %d has the value %x, which nobody stored", k, n)
	}
	return binary.LittleEndian.Uint32(b), err
}

// An acknowledgement is 16 bytes: writer, operation, and for counters the value.
const ackBytes = 16

func TestKill(t *testing.T) {
	if words := childOf(killEnv, 4); words != nil {
		killChild(t, words)
	}
	t.Parallel()
	cases := killCases()
	rounds := alone(200, 20, len(cases))
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.shm {
				var err error
				if dir, err = os.MkdirTemp("/dev/shm", "pmemtable"); err != nil {
					t.Skip("no shared memory here: ", err)
				}
				t.Cleanup(func() { _ = os.RemoveAll(dir) })
			}
			k := newKiller(t, c, i, filepath.Join(dir, "t.pmt"))
			for range (rounds + len(cases) - 1) / len(cases) {
				k.round()
			}
			t.Logf("%d operations acknowledged, %d more had happened, %d opens killed", k.acknowledged, k.happened, k.openings)
			require.Positive(t, k.acknowledged)
		})
	}
}

// killer is the parent's side of a case.
type killer struct {
	*killCase
	t       *testing.T
	index   int
	path    string
	rand    *rand.Rand
	version map[uint32]uint32 // of every key that is there
	counter [killCounters]uint32

	acknowledged, happened, openings int
}

func newKiller(t *testing.T, c killCase, index int, path string) *killer {
	k := &killer{killCase: &c, t: t, index: index, path: path, rand: seeded(t), version: make(map[uint32]uint32)}
	tab, err := c.open(path, false)
	require.NoError(t, err)
	require.NoError(t, tab.Close())
	return k
}

// child runs the test binary again as a child of the given kind.
func (k *killer) child(kind string, round uint64) (*exec.Cmd, *os.File, *bytes.Buffer) {
	r, w, err := os.Pipe()
	require.NoError(k.t, err)
	cmd := testProgram("-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d %s", killEnv, kind, k.index, round, k.path))
	cmd.ExtraFiles = []*os.File{w}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(k.t, cmd.Start())
	require.NoError(k.t, w.Close())
	return cmd, r, &output
}

// yield lets a random, short time pass: that is no condition of anything.
func (k *killer) yield() {
	for range k.rand.IntN(200) {
		runtime.Gosched()
	}
}

// round has a child write, kills it, perhaps kills opens, and verifies.
func (k *killer) round() {
	t, seed := k.t, k.rand.Uint64()
	cmd, acks, output := k.child("write", seed)
	target := 1 + k.rand.IntN(k.acks)
	done := make([]uint32, k.writers) // operations that each writer acknowledged
	added := make(map[uint32]map[uint32]bool)
	n := 0
	for buf := make([]byte, ackBytes); ; n++ {
		if n == target {
			k.yield()
			require.NoError(t, cmd.Process.Kill())
		}
		if _, err := io.ReadFull(acks, buf); err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		k.acknowledge(seed, buf, done, added)
	}
	_ = cmd.Wait()
	require.GreaterOrEqual(t, n, target, "the child ended by itself: %s", output)
	k.acknowledged += n

	var before map[string]string
	if k.rand.IntN(3) == 0 {
		before = k.contents(true)
		for range 1 + k.rand.IntN(2) {
			k.killOpening()
		}
	}
	tab, err := k.open(k.path, false)
	require.NoError(t, err)
	require.Contains(t, tab.Stats().OpenedFrom, "working root")
	after := contents(t, tab)
	if before != nil {
		require.Equal(t, before, after, "a kill while opening changed something")
	}
	k.verify(seed, tab, done, added)
	report := checked(t, tab)
	require.Equal(t, len(after), report.Entries)
	require.Equal(t, len(after), tab.Len())
	if k.rand.IntN(4) == 0 { // else the next round begins with an unclean open too
		require.NoError(t, tab.Close())
	} else {
		kill(tab)
	}
}

func (k *killer) contents(readOnly bool) map[string]string {
	tab, err := k.open(k.path, readOnly)
	require.NoError(k.t, err)
	m := contents(k.t, tab)
	require.NoError(k.t, tab.Close())
	return m
}

// killOpening kills a child while it opens the file, or marks, or just after.
func (k *killer) killOpening() {
	cmd, stages, output := k.child("open", 0)
	for range 1 + k.rand.IntN(3) {
		_, err := stages.Read(make([]byte, 1))
		require.NoError(k.t, err, "%s", output)
	}
	k.yield()
	require.NoError(k.t, cmd.Process.Kill())
	_ = cmd.Wait()
	_ = stages.Close()
	k.openings++
}

// acknowledge takes notice of one acknowledgement.
func (k *killer) acknowledge(seed uint64, ack []byte, done []uint32, added map[uint32]map[uint32]bool) {
	le := binary.LittleEndian
	writer, i, value := le.Uint32(ack), le.Uint32(ack[4:]), le.Uint32(ack[8:])
	require.Equal(k.t, done[writer], i, "acknowledgements come in order")
	done[writer]++
	o := k.op(seed, writer, i)
	if o.kind != 'a' {
		k.apply(o, i)
		return
	}
	if added[o.key] == nil {
		added[o.key] = make(map[uint32]bool)
	}
	require.False(k.t, added[o.key][value], "two writers moved counter %d to %d", o.key, value)
	added[o.key][value] = true
}

// apply does to the model what operation i did to the table.
func (k *killer) apply(o killOp, i uint32) {
	switch {
	case o.kind == 'p', o.kind == 'c' && k.version[o.key] != 0:
		k.version[o.key] = i + 1
	case o.kind == 'd':
		delete(k.version, o.key)
	case o.kind == 'C':
		clear(k.version)
	}
}

// verify compares the table with what was acknowledged. Of each writer one more
// operation, the next, may have happened.
func (k *killer) verify(seed uint64, tab *table.Table, done []uint32, added map[uint32]map[uint32]bool) {
	t := k.t
	var next []killOp
	for w, n := range done {
		next = append(next, k.op(seed, uint32(w), n))
	}
	if next[0].kind == 'C' && tab.Len() == 0 && len(k.version) > 0 {
		k.happened++
		clear(k.version)
	}
	for key := range uint32(k.writers * killKeys) {
		have := uint32(0)
		v, err := tab.Get(k.key(key))
		if !errors.Is(err, table.ErrNotFound) {
			require.NoError(t, err)
			have, err = k.readTold(key, v)
			require.NoError(t, err)
		}
		if want := k.version[key]; have != want {
			w := key / killKeys
			require.Equal(t, key, next[w].key, "key %d: version %d, want %d", key, have, want)
			k.apply(next[w], done[w])
			require.Equal(t, k.version[key], have, "key %d: neither before nor after %c", key, next[w].kind)
			k.happened++
		}
	}
	for c := range uint32(killCounters) {
		key, have := 1<<16+c, uint32(0)
		v, err := tab.Get(k.key(key))
		if !errors.Is(err, table.ErrNotFound) {
			require.NoError(t, err)
			have, err = k.readTold(key, v)
			require.NoError(t, err)
		}
		began := k.counter[c]
		for value := range added[key] {
			require.Greater(t, value, began)
			require.LessOrEqual(t, value, have, "counter %d was moved to %d", c, value)
		}
		may := 0
		for _, o := range next {
			if o.key == key {
				may++
			}
		}
		more := int(have-began) - len(added[key])
		require.LessOrEqual(t, more, may, "counter %d stands at %d", c, have)
		k.happened += more
		k.counter[c] = have
	}
}

// killChild is the child's side.
func killChild(t *testing.T, words []string) {
	index, err := strconv.Atoi(words[1])
	require.NoError(t, err)
	c := killCases()[index]
	round, err := strconv.ParseUint(words[2], 10, 64)
	require.NoError(t, err)
	acks := os.NewFile(3, "acknowledgements")
	say := func(b []byte) {
		_, err := acks.Write(b)
		require.NoError(t, err)
	}
	opens := words[0] == "open"
	if opens {
		say([]byte("1"))
	}
	tab, err := c.open(words[3], false)
	require.NoError(t, err)
	if opens {
		say([]byte("2"))
		<-tab.Pool().Swept()
		say([]byte("3"))
		select {} // until the kill
	}
	var wg sync.WaitGroup
	for w := range uint32(c.writers) {
		wg.Go(func() {
			for i := uint32(0); ; i++ {
				value := c.perform(t, tab, c.op(round, w, i), i)
				ack := make([]byte, ackBytes)
				binary.LittleEndian.PutUint32(ack, w)
				binary.LittleEndian.PutUint32(ack[4:], i)
				binary.LittleEndian.PutUint32(ack[8:], value)
				say(ack)
			}
		})
	}
	wg.Wait()
}

// perform carries operation i of a writer out.
func (c *killCase) perform(t *testing.T, tab *table.Table, o killOp, i uint32) (value uint32) {
	k := c.key(o.key)
	current := func() []byte {
		v, err := tab.Get(k)
		if !errors.Is(err, table.ErrNotFound) {
			require.NoError(t, err)
		}
		return v
	}
	switch o.kind {
	case 'p':
		require.NoError(t, tab.Put(k, c.told(o.key, i+1, o.units)))
	case 'd':
		require.NoError(t, tab.Delete(k))
	case 'c':
		had := current()
		did, err := tab.CompareAndSwap(k, had, c.told(o.key, i+1, o.units))
		require.NoError(t, err)
		require.Equal(t, had != nil, did)
	case 'n':
		did, err := tab.CompareAndSwap(k, append(current(), 0), c.told(o.key, i+1, o.units))
		require.NoError(t, err)
		require.False(t, did)
	case 'C':
		require.NoError(t, tab.Clear())
	case 's':
		require.NoError(t, tab.Sync())
	case 'a':
		for {
			old := current()
			var did bool
			var err error
			if old == nil {
				value = 1
				did, err = tab.PutIfAbsent(k, c.told(o.key, value, 1))
			} else {
				had, e := c.readTold(o.key, old)
				require.NoError(t, e)
				value = had + 1
				did, err = tab.CompareAndSwap(k, old, c.told(o.key, value, 1))
			}
			require.NoError(t, err)
			if did {
				return value
			}
		}
	}
	return 0
}
