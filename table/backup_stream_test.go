package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: a backup that is not one instant, or not all of it;
// a stream that was cut off or changed and makes a table all the same; a Restore
// that fails and leaves something behind, or something else than it found.

// restored makes a table of a stream and opens it.
func restored(t *testing.T, stream []byte, o *table.Options) *table.Table {
	path := filepath.Join(t.TempDir(), "restored.pmt")
	require.NoError(t, table.Restore(bytes.NewReader(stream), path, o))
	tab, err := table.Open(path, &table.Options{Durability: table.OnSync, MustExist: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, tab.Close()) })
	require.Contains(t, tab.Stats().OpenedFrom, "closed in order")
	return tab
}

func backup(t *testing.T, of interface{ Backup(io.Writer) error }) []byte {
	var buf bytes.Buffer
	require.NoError(t, of.Backup(&buf))
	return buf.Bytes()
}

func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	for _, media := range mediaFor(t) {
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			tab := onHeap(t, media, 4, 24<<20)
			for i := range 2000 { // so that a backup takes a while
				require.NoError(t, tab.Put(key(i), value(i, i%200)))
			}
			const clerks = 3
			b := newBank(t, tab, clerks)
			var wg sync.WaitGroup
			for c := range clerks {
				source := rand.New(rand.NewPCG(r.Uint64(), 0))
				wg.Go(func() { assert.NoError(t, b.work(c, source)) })
			}
			for n := range rounds(8, 3) {
				before := b.done.Load()
				for b.done.Load() < before+5 && !t.Failed() {
					time.Sleep(10 * time.Microsecond)
				}
				snap, err := tab.Snapshot()
				require.NoError(t, err)
				want, err := snapState(snap)
				require.NoError(t, err)
				stream := backup(t, snap)
				require.Equal(t, stream, backup(t, snap), "the same snapshot gives the same bytes")
				require.NoError(t, snap.Close())
				for _, s := range [][]byte{stream, backup(t, tab)} {
					back := restored(t, s, &table.Options{Stripes: 1 << r.IntN(7)})
					require.NoError(t, b.audit(back.Get, back.Metadata), "backup %d", n)
					have, err := readState(back)
					require.NoError(t, err)
					if &s[0] == &stream[0] {
						require.Empty(t, diffOf(want, have))
					}
				}
			}
			b.stop.Store(true)
			wg.Wait()
			require.Zero(t, tab.Stats().Snapshots)
		})
	}
}

func TestBackupOfWhatThereIs(t *testing.T) {
	t.Parallel()
	frame := 256 << 10
	for name, entries := range map[string]map[string]string{
		"nothing":            {},
		"an empty entry":     {"": ""},
		"the longest key":    {string(value(1, layout.MaxKeyBytes)): "v", "": "v"},
		"a value of a frame": {"a": string(value(1, frame)), "b": string(value(2, frame-1)), "c": string(value(3, frame+1))},
		"large values":       {"a": string(value(1, alone(5<<20, 5<<20, 1<<20))), "b": string(value(2, 300_000)), "c": "", "d": string(value(3, 1<<20))},
		"small ones":         {"a": "1", "b": "2", "c": ""},
	} {
		for _, meta := range []string{"", "metadata", string(value(7, 400_000))} {
			t.Run(fmt.Sprintf("%s, metadata of %d bytes", name, len(meta)), func(t *testing.T) {
				tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Durability: table.OnSync, Stripes: 2})
				require.NoError(t, err)
				defer func() { require.NoError(t, tab.Close()) }()
				want := diskState{entries: entries, meta: meta}
				for k, v := range entries {
					require.NoError(t, tab.Put([]byte(k), []byte(v)))
				}
				if meta != "" {
					b := table.NewBatch()
					b.SetMetadata([]byte(meta))
					require.NoError(t, tab.Apply(b))
				}
				stream := backup(t, tab)
				readers := []io.Reader{iotest.HalfReader(bytes.NewReader(stream)), iotest.DataErrReader(bytes.NewReader(stream)), bytes.NewReader(stream)}
				for _, r := range readers[:alone(3, 3, 1)] {
					path := filepath.Join(t.TempDir(), "r.pmt")
					require.NoError(t, table.Restore(r, path, nil))
					back, err := table.Open(path, nil)
					require.NoError(t, err)
					have, err := readState(back)
					require.NoError(t, err)
					require.Empty(t, diffOf(want, have))
					require.NoError(t, back.Close())
				}
			})
		}
	}
}

// refused checks that a stream makes no table, and leaves nothing behind.
func refused(t *testing.T, dir string, r io.Reader, want error, what string) {
	t.Helper()
	// On tmpfs, or what passes for it, a table costs no sync.
	err := table.Restore(r, filepath.Join(dir, "r.pmt"), &table.Options{Stripes: 1, Media: pmem.Tmpfs})
	require.ErrorIs(t, err, want, what)
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, names, what)
}

func TestDamagedBackups(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	tab := onHeap(t, pmem.Tmpfs, 1, 4<<20)
	for i := range 12 {
		require.NoError(t, tab.Put(key(i), value(i, 5+i)))
	}
	b := table.NewBatch()
	b.SetMetadata([]byte("metadata"))
	require.NoError(t, tab.Apply(b))
	stream := backup(t, tab)
	dir := t.TempDir()
	step := alone(1, 7, 29)
	for n := r.IntN(step); n < len(stream); n += step {
		refused(t, dir, bytes.NewReader(stream[:n]), table.ErrBadBackup, fmt.Sprintf("cut off at %d of %d", n, len(stream)))
	}
	for at := r.IntN(step); at < len(stream); at += step {
		for _, bit := range []int{r.IntN(8), r.IntN(8)}[:rounds(2, 1)] {
			bad := bytes.Clone(stream)
			bad[at] ^= 1 << bit
			refused(t, dir, bytes.NewReader(bad), table.ErrBadBackup, fmt.Sprintf("bit %d of byte %d flipped", bit, at))
		}
	}
	for range rounds(100, 10) { // a piece left out, doubled, or moved
		from := r.IntN(len(stream))
		to := from + 1 + r.IntN(len(stream)-from)
		at := r.IntN(len(stream))
		out := append(bytes.Clone(stream[:from]), stream[to:]...)
		double := append(append(bytes.Clone(stream[:at]), stream[from:to]...), stream[at:]...)
		for _, bad := range [][]byte{out, double} {
			if !bytes.Equal(bad, stream) {
				refused(t, dir, bytes.NewReader(bad), table.ErrBadBackup, fmt.Sprintf("bytes %d to %d left out, or doubled at %d", from, to, at))
			}
		}
	}
	refused(t, dir, bytes.NewReader(append(bytes.Clone(stream), 0)), table.ErrBadBackup, "a byte more")
	refused(t, dir, bytes.NewReader(append(bytes.Clone(stream), stream...)), table.ErrBadBackup, "twice")
	refused(t, dir, bytes.NewReader(nil), table.ErrBadBackup, "nothing")
	refused(t, dir, bytes.NewReader(make([]byte, 1000)), table.ErrBadBackup, "zeros")
	gone := errors.New("the line is gone")
	for range rounds(20, 4) {
		n := r.IntN(len(stream))
		refused(t, dir, io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(gone)), gone, fmt.Sprintf("the line goes at %d", n))
	}
	require.NoError(t, table.Restore(bytes.NewReader(stream), filepath.Join(dir, "r.pmt"), nil))
}

// madeBackup is a stream with right checksums of whatever frames.
type madeBackup struct {
	bytes.Buffer
	sum uint32
}

func newMadeBackup() *madeBackup {
	m := &madeBackup{}
	m.WriteString("PMTBAK01")
	return m
}

func (m *madeBackup) frame(kind byte, payload []byte) *madeBackup {
	whole := append(binary.AppendUvarint([]byte{kind}, uint64(len(payload))), payload...)
	tail := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(whole, layout.Castagnoli))
	m.Write(append(whole, tail...))
	m.sum = crc32.Update(m.sum, layout.Castagnoli, tail)
	return m
}

func (m *madeBackup) end(count uint64) *madeBackup {
	return m.frame('Z', binary.LittleEndian.AppendUint32(binary.AppendUvarint(nil, count), m.sum))
}

func backupEntry(key, value string) []byte {
	b := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(len(key))), uint64(len(value)))
	return append(append(b, key...), value...)
}

// TestHostileBackups: streams that nobody's disk garbled, made to be wrong.
func TestHostileBackups(t *testing.T) {
	dir := t.TempDir()
	good := newMadeBackup().frame('M', nil).frame('E', backupEntry("k", "v")).end(1)
	require.NoError(t, table.Restore(bytes.NewReader(good.Bytes()), filepath.Join(dir, "good.pmt"), nil))
	require.NoError(t, os.Remove(filepath.Join(dir, "good.pmt")))
	sizes := func(k, v uint64) []byte { return binary.AppendUvarint(binary.AppendUvarint(nil, k), v) }
	cut := func(b []byte) *bytes.Buffer { return bytes.NewBuffer(b) }
	for name, stream := range map[string]io.Reader{
		"no end":                     newMadeBackup().frame('M', nil).frame('E', backupEntry("k", "v")),
		"too many entries":           newMadeBackup().frame('M', nil).frame('E', backupEntry("k", "v")).end(2),
		"too few":                    newMadeBackup().frame('M', nil).frame('E', backupEntry("k", "v")).end(0),
		"an entry in two frames":     newMadeBackup().frame('M', nil).frame('E', backupEntry("k", "v")[:2]).frame('E', backupEntry("k", "v")[2:]).end(1),
		"a key over the frame":       newMadeBackup().frame('M', nil).frame('E', sizes(10, 0)).end(1),
		"a value over the frame":     newMadeBackup().frame('M', nil).frame('E', sizes(0, 10)).end(1),
		"a key too long":             newMadeBackup().frame('M', nil).frame('E', append(sizes(1<<16, 0), make([]byte, 1<<16)...)).end(1),
		"sizes that overflow":        newMadeBackup().frame('M', nil).frame('E', sizes(1<<64-1, 1<<64-1)).end(1),
		"a value size without bound": newMadeBackup().frame('M', nil).frame('E', sizes(1, 1<<63)).end(1),
		"a size cut off":             newMadeBackup().frame('M', nil).frame('E', []byte{0x80}).end(1),
		"a kind that is none":        newMadeBackup().frame('M', nil).frame('?', nil).end(0),
		"a frame as large as memory": cut(binary.AppendUvarint([]byte("PMTBAK01E"), 1<<62)),
		"a frame larger than any":    cut(binary.AppendUvarint([]byte("PMTBAK01E"), 2<<30)),
		"a frame that does not come": cut(binary.AppendUvarint([]byte("PMTBAK01E"), 1<<30)),
		"a size without end":         cut(append([]byte("PMTBAK01E"), bytes.Repeat([]byte{0xff}, 20)...)),
		"an end that says nothing":   newMadeBackup().frame('M', nil).frame('Z', nil),
		"an end of another stream":   newMadeBackup().frame('M', []byte("other")).frame('Z', []byte{0, 1, 2, 3, 4}),
		"a later version":            cut([]byte("PMTBAK02")),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		refused(t, dir, stream, table.ErrBadBackup, name)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "%s: memory as the stream says, not as it comes", name)
	}
}

func TestRestoreRefusesWhatIsThere(t *testing.T) {
	tab := onHeap(t, pmem.Tmpfs, 1, 4<<20)
	require.NoError(t, tab.Put(key(1), key(1)))
	stream := backup(t, tab)
	dir := t.TempDir()
	file, folder, link := filepath.Join(dir, "file"), filepath.Join(dir, "folder"), filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	require.NoError(t, os.Mkdir(folder, 0o700))
	paths := []string{file, folder}
	if os.Symlink(filepath.Join(dir, "nowhere"), link) == nil {
		paths = append(paths, link)
	}
	for _, path := range paths {
		require.ErrorIs(t, table.Restore(bytes.NewReader(stream), path, nil), fs.ErrExist, path)
	}
	// One that comes while the stream is read is not replaced either.
	late := filepath.Join(dir, "late")
	reader := io.MultiReader(bytes.NewReader(stream[:10]), readerFunc(func([]byte) (int, error) {
		return 0, errors.Join(os.WriteFile(late, []byte("precious"), 0o600), io.EOF)
	}))
	require.Error(t, table.Restore(reader, late, nil))
	require.NoError(t, os.Remove(late))
	reader = io.MultiReader(readerFunc(func([]byte) (int, error) {
		if err := os.WriteFile(late, []byte("precious"), 0o600); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}), bytes.NewReader(stream))
	require.ErrorIs(t, table.Restore(reader, late, nil), fs.ErrExist)
	for _, path := range []string{file, late} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "precious", string(text))
	}
	require.ErrorIs(t, table.Restore(bytes.NewReader(stream), filepath.Join(dir, "no such folder", "t"), nil), fs.ErrNotExist)
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, names, len(paths)+1, "%v", names)
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestBackupToWriterThatFails: the writer's error comes back, and the snapshot of
// the backup is closed.
func TestBackupToWriterThatFails(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	tab := onHeap(t, pmem.Tmpfs, 2, 8<<20)
	for i := range 1500 {
		require.NoError(t, tab.Put(key(i), value(i, 500)))
	}
	size := len(backup(t, tab))
	full := errors.New("the tape is full")
	for range 20 {
		w := &shortWriter{left: r.IntN(size), err: full}
		require.ErrorIs(t, tab.Backup(w), full)
		require.Zero(t, tab.Stats().Snapshots)
	}
	// Closing the snapshot, or the table, ends a backup that is under way.
	snap, err := tab.Snapshot()
	require.NoError(t, err)
	require.ErrorIs(t, snap.Backup(&shortWriter{left: size / 2, then: snap.Close}), table.ErrClosed)
	other, err := table.OpenPool(poolOn(t, pmem.Tmpfs), nil)
	require.NoError(t, err)
	for i := range 5000 {
		require.NoError(t, other.Put(key(i), value(i, 200)))
	}
	require.ErrorIs(t, other.Backup(&shortWriter{left: 500_000, then: other.Close}), table.ErrClosed)
}

// shortWriter takes so many bytes and then fails, or does something once.
type shortWriter struct {
	left int
	err  error
	then func() error
}

func (w *shortWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left >= 0 {
		return len(b), nil
	}
	if w.err != nil {
		return 0, w.err
	}
	if then := w.then; then != nil {
		w.then = nil
		return len(b), then()
	}
	return len(b), nil
}
