package table_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: kill -9 in the middle of Apply leaves a part of a
// batch, loses one that was acknowledged, or parts the metadata from the entries of
// their batch. A child applies batch after batch; batch i is the whole state i. At
// some store of some batch it stops, says so, and is killed there.

const (
	batchKillEnv  = "PMEMTABLE_TEST_BATCH_KILL" // for the child: case, batch before, at which batch and store to stop, path
	batchStopped  = 1<<32 - 1                   // in the place of an acknowledgement
	batchKillKeys = 30
	batchKillMove = 40 // keys that each batch brings, and the next one takes away
)

type batchKillCase struct {
	media      pmem.Media
	durability table.Durability
	geometry   pmem.Geometry
}

func batchKillCases() []batchKillCase {
	cases := []batchKillCase{
		{pmem.PageCache, table.Always, tiny(2)},
		{pmem.PageCache, table.OnSync, tiny(4)},
		{pmem.PageCache, table.Interval(2e6), pmem.Geometry{Stripes: 2}},
		{pmem.Tmpfs, table.Always, tiny(1)},
	}
	if canFlush() {
		cases = append(cases, batchKillCase{pmem.DAX, table.Always, tiny(2)})
	}
	return cases
}

func (c *batchKillCase) open(path string, readOnly bool, hook pmem.Hook) (*table.Table, error) {
	p, err := pmem.Open(path, pmem.Options{Geometry: c.geometry, Media: c.media, ReadOnly: readOnly, MaxSizeBytes: 64 << 20, Hook: hook})
	if err != nil {
		return nil, err
	}
	return table.OpenPool(p, &table.Options{Durability: c.durability})
}

// batchState is what the table holds after batch i; none before the first.
func batchState(i uint32) diskState {
	s := diskState{entries: map[string]string{}}
	if i == 0 {
		return s
	}
	for k := range uint32(batchKillKeys) {
		s.entries[fmt.Sprint("stays ", k)] = string(told(k, i, 1+int(k+i)%9))
	}
	for k := range uint32(batchKillMove) {
		s.entries[fmt.Sprint("moves ", i, " ", k)] = string(told(k, i, 1))
	}
	s.meta = fmt.Sprint("applied ", i)
	return s
}

// batchTo is the batch that leads from state i-1 to state i.
func batchTo(b *table.Batch, i uint32) {
	b.Reset()
	for k := range batchKillMove {
		b.Delete(fmt.Appendf(nil, "moves %d %d", i-1, k))
	}
	s := batchState(i)
	for k, v := range s.entries {
		b.Put([]byte(k), []byte(v))
	}
	b.SetMetadata([]byte(s.meta))
}

func TestBatchKilled(t *testing.T) {
	if words := childOf(batchKillEnv, 5); words != nil {
		batchKillChild(t, words)
	}
	t.Parallel()
	for n, c := range batchKillCases() {
		t.Run(fmt.Sprint(c.media, " ", c.durability), func(t *testing.T) {
			r := seeded(t)
			path := filepath.Join(t.TempDir(), "t.pmt")
			tab, err := c.open(path, false, nil)
			require.NoError(t, err)
			require.NoError(t, tab.Close())
			last, ahead := uint32(0), 0
			for range rounds(20, 3) {
				acked := c.killed(t, fmt.Sprintf("%d %d %d %d %s", n, last, last+1+r.Uint32N(10), r.IntN(700), path), last)
				reader, err := c.open(path, true, nil) // before anything is redone
				require.NoError(t, err)
				state := stateOf(t, reader)
				require.NoError(t, reader.Close())
				last = acked
				if state.meta != batchState(acked).meta { // the one that was under way
					last++
					ahead++
				}
				require.Empty(t, diffOf(batchState(last), state), "batch %d was acknowledged", acked)
				tab, err := c.open(path, false, nil)
				require.NoError(t, err)
				shows(t, tab, batchState(last))
				checked(t, tab)
				if r.IntN(3) == 0 {
					require.NoError(t, tab.Close())
				} else {
					kill(tab)
				}
			}
			t.Logf("%d batches, %d kills came between decision and acknowledgement", last, ahead)
		})
	}
}

// killed has a child apply batches, kills it where it stops, and returns the last
// batch that it acknowledged.
func (c *batchKillCase) killed(t *testing.T, what string, last uint32) uint32 {
	acks, w, err := os.Pipe()
	require.NoError(t, err)
	defer acks.Close()
	cmd := testProgram("-test.run=^TestBatchKilled$")
	cmd.Env = append(os.Environ(), batchKillEnv+"="+what)
	cmd.ExtraFiles = []*os.File{w}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	require.NoError(t, w.Close())
	for ack := make([]byte, 4); ; last++ {
		if _, err := io.ReadFull(acks, ack); err != nil {
			_ = cmd.Wait()
			require.Fail(t, "the child ended by itself", "%s", &output)
		}
		i := binary.LittleEndian.Uint32(ack)
		if i == batchStopped {
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			return last
		}
		require.Equal(t, last+1, i)
	}
}

// dyingHook stops the process at a store, for good.
type dyingHook struct {
	throughHook
	mu    sync.Mutex
	armed bool
	left  int // stores until then
	say   func()
}

func (h *dyingHook) Store(_, _ uint64, apply func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.armed {
		h.left--
	}
	if h.left < 0 {
		h.say()
		for {
			time.Sleep(time.Hour) // until the kill
		}
	}
	apply()
}

func (h *dyingHook) Copy(_ uint64, _ []byte, apply func()) { h.Store(0, 0, apply) }

func (h *dyingHook) arm() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.armed = true
}

// batchKillChild is the child's side.
func batchKillChild(t *testing.T, words []string) {
	var numbers [4]int
	for i := range numbers {
		var err error
		numbers[i], err = strconv.Atoi(words[i])
		require.NoError(t, err)
	}
	acks := os.NewFile(3, "acknowledgements")
	say := func(i uint32) {
		_, err := acks.Write(binary.LittleEndian.AppendUint32(nil, i))
		require.NoError(t, err)
	}
	hook := &dyingHook{left: numbers[3], say: func() { say(batchStopped) }}
	tab, err := batchKillCases()[numbers[0]].open(words[4], false, hook)
	require.NoError(t, err)
	b := table.NewBatch()
	for i := uint32(numbers[1]) + 1; ; i++ {
		if i == uint32(numbers[2]) {
			hook.arm()
		}
		batchTo(b, i)
		require.NoError(t, tab.Apply(b))
		say(i)
	}
}
