package table_test

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: a method that answers otherwise than that of
// sync.Map, a value that does not come back as it was, an error that is swallowed.

func intMap(tab *table.Table) *table.Map[int16, string] {
	return table.NewMap(tab, table.IntegerCodec[int16](), table.StringCodec[string]())
}

// TestMapAnswersAsSyncMap runs one random program on both.
func TestMapAnswersAsSyncMap(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		h := pmem.NewHeap(nil, 1<<20)
		tab := openOn(r, h, pmem.Options{Geometry: tiny(1), Media: pmem.Tmpfs}, nil)
		ours, theirs := intMap(tab).Must(nil), new(sync.Map)
		key := rapid.Int16Range(-2, 2)
		value := rapid.SampledFrom([]string{"", "a", "b", "longer than the others"})
		text := func(v any, ok bool) (string, bool) {
			if v == nil {
				return "", ok
			}
			return v.(string), ok
		}
		same := func(a string, aok bool, b any, bok bool) {
			bs, _ := text(b, bok)
			require.Equal(r, bs, a)
			require.Equal(r, bok, aok)
		}
		r.Repeat(map[string]func(*rapid.T){
			"load": func(r *rapid.T) {
				k := key.Draw(r, "k")
				a, aok := ours.Load(k)
				b, bok := theirs.Load(k)
				same(a, aok, b, bok)
			},
			"store": func(r *rapid.T) {
				k, v := key.Draw(r, "k"), value.Draw(r, "v")
				ours.Store(k, v)
				theirs.Store(k, v)
			},
			"load or store": func(r *rapid.T) {
				k, v := key.Draw(r, "k"), value.Draw(r, "v")
				a, aok := ours.LoadOrStore(k, v)
				b, bok := theirs.LoadOrStore(k, v)
				same(a, aok, b, bok)
			},
			"load and delete": func(r *rapid.T) {
				k := key.Draw(r, "k")
				a, aok := ours.LoadAndDelete(k)
				b, bok := theirs.LoadAndDelete(k)
				same(a, aok, b, bok)
			},
			"delete": func(r *rapid.T) {
				k := key.Draw(r, "k")
				ours.Delete(k)
				theirs.Delete(k)
			},
			"swap": func(r *rapid.T) {
				k, v := key.Draw(r, "k"), value.Draw(r, "v")
				a, aok := ours.Swap(k, v)
				b, bok := theirs.Swap(k, v)
				same(a, aok, b, bok)
			},
			"compare and swap": func(r *rapid.T) {
				k, old, v := key.Draw(r, "k"), value.Draw(r, "old"), value.Draw(r, "v")
				require.Equal(r, theirs.CompareAndSwap(k, old, v), ours.CompareAndSwap(k, old, v))
			},
			"compare and delete": func(r *rapid.T) {
				k, old := key.Draw(r, "k"), value.Draw(r, "old")
				require.Equal(r, theirs.CompareAndDelete(k, old), ours.CompareAndDelete(k, old))
			},
			"compute": func(r *rapid.T) {
				k, v := key.Draw(r, "k"), value.Draw(r, "v")
				op := rapid.SampledFrom([]table.Op{table.Keep, table.Store, table.Remove}).Draw(r, "op")
				b, bok := text(theirs.Load(k))
				a, aok := ours.Compute(k, func(old string, loaded bool) (string, table.Op) {
					require.Equal(r, b, old)
					require.Equal(r, bok, loaded)
					return v, op
				})
				switch op {
				case table.Store:
					theirs.Store(k, v)
					require.Equal(r, v, a)
					require.True(r, aok)
				case table.Remove:
					theirs.Delete(k)
					require.False(r, aok)
				case table.Keep:
					require.Equal(r, b, a)
					require.Equal(r, bok, aok)
				}
			},
			"clear": func(r *rapid.T) {
				ours.Clear()
				theirs.Clear()
			},
			"": func(r *rapid.T) {
				have, want := map[int16]string{}, map[int16]string{}
				for k, v := range ours.All() {
					have[k] = v
				}
				theirs.Range(func(k, v any) bool { want[k.(int16)] = v.(string); return true })
				require.Equal(r, want, have)
				require.Equal(r, len(want), ours.Len())
			},
		})
		require.NoError(r, tab.Close())
	})
}

// TestMapIsAtomic: each goroutine's steps are all in the sum, and one of many that
// come first is the first.
func TestMapIsAtomic(t *testing.T) {
	tab := onHeap(t, pmem.Tmpfs, 2, 1<<20)
	m := table.NewMap(tab, table.StringCodec[string](), table.IntegerCodec[int]())
	const goroutines, steps = 4, 200
	var group sync.WaitGroup
	var mu sync.Mutex
	first := 0
	for g := range goroutines {
		group.Go(func() {
			for range steps {
				_, _, err := m.Compute("sum", func(old int, _ bool) (int, table.Op) { return old + 1, table.Store })
				require.NoError(t, err)
			}
			_, loaded, err := m.LoadOrStore("who", g)
			require.NoError(t, err)
			if !loaded {
				mu.Lock()
				first++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	sum, ok, err := m.Load("sum")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, goroutines*steps, sum)
	require.Equal(t, 1, first)
}

type (
	userID  uint64
	hash    [32]byte
	address string
)

func roundTrip[T comparable](t *testing.T, c table.Codec[T], values ...T) {
	for _, v := range values {
		b, err := c.Append([]byte("before"), v)
		require.NoError(t, err)
		require.Equal(t, "before", string(b[:6]))
		back, err := c.Decode(b[6:])
		require.NoError(t, err)
		require.Equal(t, v, back)
	}
}

func TestCodecs(t *testing.T) {
	roundTrip(t, table.IntegerCodec[int8](), -128, -1, 0, 127)
	roundTrip(t, table.IntegerCodec[int16](), math.MinInt16, -1, math.MaxInt16)
	roundTrip(t, table.IntegerCodec[int32](), math.MinInt32, -1, math.MaxInt32)
	roundTrip(t, table.IntegerCodec[int64](), math.MinInt64, -1, math.MaxInt64)
	roundTrip(t, table.IntegerCodec[int](), math.MinInt32, -1, math.MaxInt32)
	roundTrip(t, table.IntegerCodec[uint8](), 0, 255)
	roundTrip(t, table.IntegerCodec[uint16](), 0, math.MaxUint16)
	roundTrip(t, table.IntegerCodec[uint32](), 0, math.MaxUint32)
	roundTrip(t, table.IntegerCodec[uint64](), 0, math.MaxUint64)
	roundTrip(t, table.IntegerCodec[userID](), 0, math.MaxUint64)
	roundTrip(t, table.ArrayCodec[hash](), hash{}, hash{1, 31: 2})
	roundTrip(t, table.StringCodec[address](), "", "a", "\x00\xff")
	roundTrip(t, table.BinaryCodec[netip.Addr](), netip.Addr{}, netip.MustParseAddr("2001:db8::1%eth0"))
	moment := time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)
	roundTrip(t, table.BinaryCodec[time.Time](), moment)
	bytesOf := table.BytesCodec[[]byte]()
	src := []byte("kept?")
	back, err := bytesOf.Decode(src)
	require.NoError(t, err)
	src[0] = '-'
	require.Equal(t, "kept?", string(back))

	b, err := table.IntegerCodec[int]().Append(nil, -2)
	require.NoError(t, err)
	require.Equal(t, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, b, "eight bytes on every machine")
	_, err = table.IntegerCodec[uint32]().Decode(b)
	require.EqualError(t, err, "8 bytes instead of 4")
	_, err = table.ArrayCodec[hash]().Decode(b)
	require.EqualError(t, err, "8 bytes instead of 32")
}

// stubborn is a codec that refuses some values.
type stubborn struct{ table.Codec[string] }

var errStubborn = errors.New("not that one")

func (c stubborn) Append(dst []byte, v string) ([]byte, error) {
	if v == "no" {
		return dst, errStubborn
	}
	return c.Codec.Append(dst, v)
}

// TestMapReportsErrors: of the codecs, with nothing changed, and of the table.
func TestMapReportsErrors(t *testing.T) {
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Stripes: 1, Durability: table.OnSync})
	require.NoError(t, err)
	codec := stubborn{table.StringCodec[string]()}
	m := table.NewMap[string, string](tab, codec, codec)
	require.NoError(t, m.Store("key", "old"))
	failing := func(key, value string, want error) {
		t.Helper()
		calls := map[string]error{"Store": m.Store(key, value)}
		_, _, calls["LoadOrStore"] = m.LoadOrStore(key, value)
		_, _, calls["Swap"] = m.Swap(key, value)
		_, calls["CompareAndSwap"] = m.CompareAndSwap(key, "old", value)
		_, calls["CompareAndSwap from"] = m.CompareAndSwap(key, value, "new")
		_, calls["CompareAndDelete"] = m.CompareAndDelete(key, value)
		_, _, calls["Compute"] = m.Compute(key, func(string, bool) (string, table.Op) { return value, table.Store })
		if key == "no" || want == table.ErrClosed {
			_, _, calls["Load"] = m.Load(key)
			_, _, calls["LoadAndDelete"] = m.LoadAndDelete(key)
			calls["Delete"] = m.Delete(key)
		}
		for name, err := range calls {
			require.ErrorIs(t, err, want, name)
		}
	}
	failing("key", "no", errStubborn)
	failing("no", "value", errStubborn)
	value, ok, err := m.Load("key")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "old", value)

	numbers := table.NewMap(tab, table.StringCodec[string](), table.IntegerCodec[uint64]())
	_, _, err = numbers.Load("key")
	require.EqualError(t, err, "decode value: 3 bytes instead of 8")
	_, _, err = numbers.Compute("key", func(uint64, bool) (uint64, table.Op) {
		t.Error("called with a value that does not decode")
		return 0, table.Remove
	})
	require.EqualError(t, err, "decode value: 3 bytes instead of 8")
	for range numbers.All() {
		t.Error("an entry that does not decode")
	}
	require.EqualError(t, numbers.Err(), "decode value: 3 bytes instead of 8")
	require.PanicsWithError(t, "decode value: 3 bytes instead of 8", func() { numbers.Must(nil).Load("key") })
	var seen error
	numbers.Must(func(err error) { seen = err }).Range(func(string, uint64) bool { return true })
	require.EqualError(t, seen, "decode value: 3 bytes instead of 8")

	require.NoError(t, tab.Close())
	failing("key", "value", table.ErrClosed)
}

func ExampleMap() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "seen.pmt"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	visits := table.NewMap(t, table.StringCodec[string](), table.IntegerCodec[uint64]())
	for _, name := range []string{"ada", "bob", "ada"} {
		n, _, err := visits.Compute(name, func(old uint64, _ bool) (uint64, table.Op) { return old + 1, table.Store })
		fmt.Println(name, n, err)
	}
	// Output:
	// ada 1 <nil>
	// bob 1 <nil>
	// ada 2 <nil>
}

func ExampleMap_Must() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "cache.pmt"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	// Was: var cache sync.Map
	cache := table.NewMap(t, table.StringCodec[string](), table.StringCodec[string]()).Must(nil)
	cache.Store("ada", "1815")
	born, ok := cache.LoadOrStore("ada", "1852")
	fmt.Println(born, ok)
	cache.Range(func(k, v string) bool {
		fmt.Println(k, v)
		return true
	})
	// Output:
	// 1815 true
	// ada 1815
}
