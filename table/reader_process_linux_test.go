package table_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: a reader in one process that gets a wrong answer,
// misses a key or counts wrong while another process writes, grows and splits the
// table, is killed with -9 and is followed by a third. The test is the reader, and
// keeps its table open all the time; its children write, and acknowledge through a
// pipe.

const (
	foreignEnv    = "PMEMTABLE_TEST_WRITER" // medium, round and path, for the child
	foreignStable = 60                      // keys that are there all the time
	foreignChurn  = 1000                    // keys that come and go, at most
	foreignNoise  = 420                     // of the bank, at most; see bank.work
)

func foreignKey(k uint32) []byte { return fmt.Appendf(nil, "told %d", k) }

func openForeign(media pmem.Media, path string, readOnly bool) (*table.Table, error) {
	p, err := pmem.Open(path, pmem.Options{Geometry: tiny(2), Media: media, ReadOnly: readOnly, MaxSizeBytes: 64 << 20})
	if err != nil {
		return nil, err
	}
	return table.OpenPool(p, &table.Options{Durability: table.OnSync})
}

func TestReaderProcessBesideWriterProcess(t *testing.T) {
	if words := childOf(foreignEnv, 3); words != nil {
		foreignWriter(t, words)
	}
	t.Parallel()
	for _, media := range []pmem.Media{pmem.Auto, pmem.Tmpfs, pmem.DAX} {
		if media == pmem.DAX && !canFlush() {
			continue
		}
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			f := &foreign{t: t, media: media, path: filepath.Join(t.TempDir(), "t.pmt")}
			writer, err := openForeign(media, f.path, false)
			require.NoError(t, err)
			for k := range uint32(foreignStable) {
				require.NoError(t, writer.Put(foreignKey(k), told(k, 0, 1)))
			}
			newBank(t, writer, 1)
			require.NoError(t, writer.Close())
			f.reader, err = openForeign(media, f.path, true)
			require.NoError(t, err)
			for range rounds(10, 2) {
				f.session(r)
			}
			require.NoError(t, f.reader.Close())
			t.Logf("%d gets, %d iterations, %d counts right; %d times the writer was too fast", f.gets.Load(), f.walks.Load(), f.counts.Load(), f.busy.Load())
			require.Positive(t, f.gets.Load())
			require.Positive(t, f.walks.Load())
			require.Positive(t, f.counts.Load())
		})
	}
}

// foreign is the reader's side.
type foreign struct {
	t      *testing.T
	media  pmem.Media
	path   string
	reader *table.Table

	acked                     atomic.Uint32 // version that every stable key has, at least
	gets, walks, counts, busy atomic.Int64
}

// session reads beside one writer until that is killed, and then once more.
func (f *foreign) session(r *rand.Rand) {
	t := f.t
	acks, w, err := os.Pipe()
	require.NoError(t, err)
	defer acks.Close()
	cmd := testProgram("-test.run=^TestReaderProcessBesideWriterProcess$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s", foreignEnv, f.media, f.acked.Load(), f.path))
	cmd.ExtraFiles = []*os.File{w}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	over := make(chan struct{})
	var wg sync.WaitGroup
	for _, look := range []func(*rand.Rand) error{f.get, f.walk} {
		source := rand.New(rand.NewPCG(r.Uint64(), 0))
		wg.Go(func() {
			for n := 0; ; n++ {
				if !assert.NoError(t, look(source)) {
					return
				}
				select {
				case <-over:
					if n > 0 {
						return
					}
				default:
				}
			}
		})
	}
	f.follow(cmd, acks, 1+r.IntN(rounds(6, 2)), &output)
	close(over)
	wg.Wait()
	f.still()
}

// follow takes notice of acknowledgements, and kills the writer at the n-th.
func (f *foreign) follow(cmd *exec.Cmd, acks io.Reader, n int, output *strings.Builder) {
	defer func() { _ = cmd.Process.Kill() }()
	seen := 0
	for ack := make([]byte, 4); ; seen++ {
		if seen == n {
			assert.NoError(f.t, cmd.Process.Kill())
		}
		if _, err := io.ReadFull(acks, ack); err != nil {
			break
		}
		f.acked.Store(binary.LittleEndian.Uint32(ack))
	}
	_ = cmd.Wait()
	assert.GreaterOrEqual(f.t, seen, n, "the writer ended by itself: %s", output)
}

// tooFast tells whether an error is the one that a reader may get.
func (f *foreign) tooFast(err error) bool {
	if err == nil || !strings.Contains(err.Error(), "too fast") {
		return false
	}
	f.busy.Add(1)
	return true
}

// get looks keys up: a stable one is never older than what was acknowledged before.
func (f *foreign) get(r *rand.Rand) error {
	for range 50 {
		k := r.Uint32N(foreignStable + foreignChurn)
		least := f.acked.Load()
		v, err := f.reader.Get(foreignKey(k))
		if f.tooFast(err) || err == table.ErrNotFound && k >= foreignStable {
			continue
		}
		if err != nil {
			return fmt.Errorf("key %d: %w", k, err)
		}
		version, err := readTold(k, v)
		if err != nil {
			return err
		}
		if k < foreignStable && version < least {
			return fmt.Errorf("key %d: version %d, and %d was acknowledged", k, version, least)
		}
		f.gets.Add(1)
	}
	return nil
}

// walk iterates and counts.
func (f *foreign) walk(*rand.Rand) error {
	seen := map[string]bool{}
	stable, least := 0, f.acked.Load()
	for key, value := range f.reader.All() {
		if seen[string(key)] {
			return fmt.Errorf("key %q comes twice", key)
		}
		seen[string(key)] = true
		number, ok := strings.CutPrefix(string(key), "told ")
		if !ok {
			continue // of the bank
		}
		k, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return err
		}
		version, err := readTold(uint32(k), value)
		if err != nil {
			return err
		}
		if k < foreignStable {
			stable++
			if version < least {
				return fmt.Errorf("key %d: version %d, and %d was acknowledged", k, version, least)
			}
		}
	}
	if err := f.reader.Err(); f.tooFast(err) {
		return nil
	} else if err != nil {
		return err
	}
	if stable != foreignStable {
		return fmt.Errorf("%d of %d keys that are there all the time", stable, foreignStable)
	}
	f.walks.Add(1)
	if n := f.reader.Len(); n < foreignStable || n > foreignStable+foreignChurn+foreignNoise {
		return fmt.Errorf("counted %d entries", n)
	}
	f.counts.Add(1)
	return nil
}

// still compares, now that the writer is dead, the reader that was there all the
// time with one that comes now, and both with the next writer; and checks that the
// batch that was cut off is there whole or not at all.
func (f *foreign) still() {
	t := f.t
	want := stateOf(t, f.reader)
	require.Equal(t, len(want.entries), f.reader.Len())
	bank := bank{clerks: 1}
	require.NoError(t, bank.audit(f.reader.Get, f.reader.Metadata))
	late, err := openForeign(f.media, f.path, true)
	require.NoError(t, err)
	shows(t, late, want)
	require.NoError(t, late.Close())
	writer, err := openForeign(f.media, f.path, false)
	require.NoError(t, err)
	shows(t, writer, want)
	shows(t, f.reader, want)
	checked(t, writer)
	kill(writer) // the next session begins with an unclean open
}

// foreignWriter is the child's side. It overwrites the stable keys, one version
// after the other, while churn splits, grows and merges around them.
func foreignWriter(t *testing.T, words []string) {
	media, err := strconv.Atoi(words[0])
	require.NoError(t, err)
	version, err := strconv.ParseUint(words[1], 10, 32)
	require.NoError(t, err)
	acks := os.NewFile(3, "acknowledgements")
	tab, err := openForeign(pmem.Media(media), words[2], false)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(version, uint64(media)))
	b := newBank(t, tab, 1)
	go func() { assert.NoError(t, b.work(0, rand.New(rand.NewPCG(version, 1)))) }()
	for v := uint32(version) + 1; ; v++ {
		for k := range uint32(foreignStable) {
			require.NoError(t, tab.Put(foreignKey(k), told(k, v, 1+r.IntN(12))))
			for range 3 {
				c := foreignStable + r.Uint32N(foreignChurn)
				if r.IntN(3) == 0 {
					require.NoError(t, tab.Delete(foreignKey(c)))
				} else {
					require.NoError(t, tab.Put(foreignKey(c), told(c, v, 1+r.IntN(12)*r.IntN(20))))
				}
			}
		}
		_, err := acks.Write(binary.LittleEndian.AppendUint32(nil, v))
		require.NoError(t, err)
		if v%3 == 0 {
			require.NoError(t, tab.Sync())
		}
		if v%7 == 0 {
			require.NoError(t, tab.Compact())
		}
	}
}
