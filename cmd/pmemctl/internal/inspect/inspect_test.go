package inspect

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

const entries = 3000

// made is a closed table with splits, deletes and two values that do not fit a chunk.
func made(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t")
	tab, err := table.Open(path, &table.Options{Stripes: 2, LogSize: 64 << 10, Durability: table.OnSync})
	require.NoError(t, err)
	for i := range entries {
		require.NoError(t, tab.Put(fmt.Append(nil, "key ", i), fmt.Append(nil, "value ", i)))
	}
	require.NoError(t, tab.Put([]byte("large"), make([]byte, 200_000)))
	require.NoError(t, tab.Delete([]byte("key 7")))
	require.NoError(t, tab.Close())
	return path
}

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestLookupAgreesWithTheTable: for keys that are there, and for such as are not.
func TestLookupAgreesWithTheTable(t *testing.T) {
	path := made(t)
	f := open(t, path)
	tab, err := table.Open(path, &table.Options{ReadOnly: true})
	require.NoError(t, err)
	defer tab.Close()
	for i := range entries + 100 {
		key := fmt.Append(nil, "key ", i)
		value, err := tab.Get(key)
		l, lookupErr := f.Lookup(key)
		require.NoError(t, lookupErr)
		require.Empty(t, l.Damage)
		require.Equal(t, err == nil, l.Found, "%s", key)
		last := l.Segments[len(l.Segments)-1]
		line := last.Lines[len(last.Lines)-1]
		require.LessOrEqual(t, len(last.Lines), 4)
		if !l.Found {
			require.True(t, !line.Overflow || len(last.Lines) == layout.WindowLines)
			continue
		}
		slot := line.Slots[len(line.Slots)-1]
		require.Equal(t, TheKey, slot.Verdict)
		require.Equal(t, string(value), string(slot.Record.Value))
		require.True(t, slot.Record.Intact)
	}
}

// TestDumpFollowsALookup: what a lookup came by can be dumped, and is intact.
func TestDumpFollowsALookup(t *testing.T) {
	f := open(t, made(t))
	for _, key := range []string{"key 1", "large"} {
		l, err := f.Lookup([]byte(key))
		require.NoError(t, err)
		require.True(t, l.Found)
		segment := l.Segments[0]
		line := segment.Lines[len(segment.Lines)-1]
		record := line.Slots[len(line.Slots)-1].Record
		for kind, address := range map[string]string{
			"header": "", "control": "", "session": "0", "superblock": "1", "stripe": fmt.Sprint(l.Stripe),
			"segment": segment.At.String(), "line": line.At.String(), "record": record.At.String(),
			"chunk": fmt.Sprint((uint64(record.At) - f.geometry.Regions().Arena) / uint64(f.geometry.ChunkBytes)),
		} {
			o, err := f.Dump(kind, address)
			require.NoError(t, err, kind)
			assert.True(t, o.Intact, kind)
			assert.Equal(t, kind, o.Kind)
			for _, field := range o.Fields {
				assert.NotEmpty(t, field.Meaning)
			}
		}
	}
	o, err := f.Dump("segment", fmt.Sprint(uint64(must(f.Lookup([]byte("key 1"))).Segments[0].At)))
	require.NoError(t, err)
	assert.Contains(t, o.Notes[0], "of 2040 slots are in use")
}

func must(l *Lookup, err error) *Lookup {
	if err != nil {
		panic(err)
	}
	return l
}

func TestAddressesThatAreNone(t *testing.T) {
	f := open(t, made(t))
	for _, c := range [][2]string{
		{"superblock", "2"}, {"session", "x"}, {"stripe", "2"}, {"segment", "1"}, {"line", "0xffffffffffffffc0"},
		{"record", "8"}, {"record", "0x10"}, {"chunk", "9999"}, {"segment", "-64"}, {"moon", "1"},
	} {
		_, err := f.Dump(c[0], c[1])
		var none *ErrAddress
		assert.ErrorAs(t, err, &none, "%v", c)
	}
}

// TestDamagedFiles: whatever a file holds, there is an answer or an error.
func TestDamagedFiles(t *testing.T) {
	path := made(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	r, images := rand.New(rand.NewPCG(1, 2)), 30
	if testing.Short() {
		images = 6
	}
	for range images {
		image := append([]byte(nil), whole...)
		for range 1 + r.IntN(40) {
			at := r.IntN(len(image))
			if r.IntN(2) == 0 {
				at = r.IntN(0x30000) // the fixed parts
			}
			image[at] = byte(r.Uint32())
		}
		require.NoError(t, os.WriteFile(path, image[:len(image)-r.IntN(2)*r.IntN(len(image)/2)], 0o600))
		f, err := Open(path)
		if err != nil {
			continue
		}
		for i := range 20 {
			_, _ = f.Lookup(fmt.Append(nil, "key ", i))
		}
		for _, kind := range Kinds {
			for range 20 {
				_, _ = f.Dump(kind.Name, fmt.Sprint(r.IntN(3)))
				_, _ = f.Dump(kind.Name, fmt.Sprint(r.IntN(len(whole))&^63))
			}
		}
		require.NoError(t, f.Close())
	}
}

func TestDamageIsPartOfTheAnswer(t *testing.T) {
	path := made(t)
	f := open(t, path)
	l, err := f.Lookup([]byte("key 1"))
	require.NoError(t, err)
	line := l.Segments[0].Lines[len(l.Segments[0].Lines)-1]
	at := line.Slots[len(line.Slots)-1].Record.At
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	content[at+20] ^= 1
	damaged := path + ".damaged"
	require.NoError(t, os.WriteFile(damaged, content, 0o600))
	f = open(t, damaged)
	l, err = f.Lookup([]byte("key 1"))
	require.NoError(t, err)
	assert.False(t, l.Found)
	assert.Contains(t, l.Damage, "its checksum is")
	o, err := f.Dump("record", at.String())
	require.NoError(t, err)
	assert.False(t, o.Intact)

	// Without a header nothing can be looked up, and objects can be looked at.
	content[0x40] ^= 1
	require.NoError(t, os.WriteFile(damaged+"2", content, 0o600))
	f = open(t, damaged+"2")
	_, err = f.Lookup([]byte("key 1"))
	assert.ErrorIs(t, err, pmem.ErrCorrupt)
	o, err = f.Dump("header", "")
	require.NoError(t, err)
	assert.False(t, o.Intact)
	assert.True(t, strings.HasSuffix(o.Fields[len(o.Fields)-1].Meaning, "WRONG"))
}

// TestLookupBesideAWriter sees what the writer stores, without its help.
func TestLookupBesideAWriter(t *testing.T) {
	path := made(t)
	tab, err := table.Open(path, nil)
	require.NoError(t, err)
	defer tab.Close()
	f := open(t, path)
	require.NoError(t, tab.Put([]byte("key 1"), []byte("newer")))
	l, err := f.Lookup([]byte("key 1"))
	require.NoError(t, err)
	require.True(t, l.Found)
	line := l.Segments[0].Lines[len(l.Segments[0].Lines)-1]
	assert.Equal(t, "newer", string(line.Slots[len(line.Slots)-1].Record.Value))
	_, err = Open(path + ".missing")
	assert.ErrorIs(t, err, os.ErrNotExist)
}
