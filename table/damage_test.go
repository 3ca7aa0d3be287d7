package table_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/recovery"
	"pmemtable/table"
)

// Looks for: a panic, a hang, or a wrong answer on a file that was cut off or
// changed. What is found must be right, or an error.

// damageImage is a small table, closed in order or left by a kill, and what is in it.
func damageImage(t testing.TB, media pmem.Media, closed bool) ([]byte, map[string]string) {
	h := pmem.NewHeap(nil, 4<<20)
	tab := openOn(t, h, pmem.Options{Media: media, Geometry: tiny(2)}, &table.Options{Durability: table.OnSync})
	want := make(map[string]string)
	for i := range 60 {
		k, v := key(i), value(i, i*7%300)
		require.NoError(t, tab.Put(k, v))
		want[string(k)] = string(v)
	}
	if closed {
		require.NoError(t, tab.Close())
		return h.Image(), want
	}
	tab.DieHeld()
	return h.Image(), want
}

// probe opens a damaged image every way and uses it. Damage may be anything but a
// forged checksum, so a value that is returned must be one that was stored. Repair
// finds nothing else either.
func probe(t testing.TB, image []byte, media pmem.Media, want map[string]string) {
	for _, readOnly := range []bool{true, false} {
		h := pmem.NewHeap(image, 6<<20)
		p, err := pmem.OpenHeap(h, pmem.Options{Media: media, Geometry: tiny(2), ReadOnly: readOnly})
		if err != nil {
			continue
		}
		tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
		if err != nil {
			continue
		}
		for k, v := range want {
			got, err := tab.Get([]byte(k))
			switch {
			case err == nil && string(got) != v:
				t.Fatalf("a wrong value for key %x", k)
			case err != nil && !errors.Is(err, table.ErrCorrupt) && !errors.Is(err, table.ErrNotFound):
				t.Fatalf("key %x: %v", k, err)
			}
		}
		for k, v := range tab.All() {
			if w, ok := want[string(k)]; !ok || w != string(v) {
				t.Fatalf("an entry that was never stored: %x", k)
			}
		}
		_, _ = tab.Check()
		_ = tab.Len()
		if !readOnly {
			for i := range 20 {
				_ = tab.Put(key(1000+i), value(i, 50))
				_ = tab.Delete(key(i))
			}
			_ = tab.Compact()
		}
		_ = tab.Close()
	}
	have, _, err := repaired(t, image, recovery.Everything)
	if err != nil {
		require.True(t, errors.Is(err, table.ErrCorrupt) || errors.Is(err, table.ErrNotPool) || errors.Is(err, table.ErrVersion), "%v", err)
	}
	for k, v := range have {
		require.Equal(t, want[k], v, "key %x after a repair", k)
	}
}

// TestEveryBitOfTheFixedParts flips the bits of what the fixed parts use, one by
// one: some of them, or all in the long run.
func TestEveryBitOfTheFixedParts(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		image, want := damageImage(t, pmem.PageCache, closed)
		regions := tiny(2).Regions()
		spans := [][2]int{{0, 96}, {4088, 4096}}
		for _, at := range []uint64{regions.Session[0], regions.Session[1]} {
			spans = append(spans, [2]int{int(at), int(at) + 96}, [2]int{int(at) + 4088, int(at) + 4096})
		}
		for _, at := range []uint64{regions.Control, regions.Intent, regions.Root[0], regions.Root[1],
			regions.Superblock[0], regions.Superblock[1]} {
			spans = append(spans, [2]int{int(at), int(at) + 96})
		}
		step := alone(7, 97, 487)
		if os.Getenv("PMEMTABLE_CRASH") == "long" { // every bit
			step = 1
		}
		n := 0
		for _, s := range spans {
			for bit := s[0] * 8; bit < s[1]*8; bit++ {
				if n++; n%step != 0 {
					continue
				}
				image[bit/8] ^= 1 << (bit % 8)
				probe(t, image, pmem.PageCache, want)
				image[bit/8] ^= 1 << (bit % 8)
			}
		}
	}
}

// TestEveryLength cuts the file off everywhere that matters.
func TestEveryLength(t *testing.T) {
	t.Parallel()
	image, want := damageImage(t, pmem.PageCache, true)
	step := alone(512, 4096, 4*4096)
	for n := 0; n < len(image); n += step {
		for _, length := range []int{n - 1, n, n + 1} {
			if length > 0 {
				probe(t, image[:length], pmem.PageCache, want)
			}
		}
	}
	probe(t, bytes.Repeat([]byte{0}, len(image)), pmem.PageCache, want)
	probe(t, bytes.Repeat([]byte("not a table "), len(image)/12), pmem.PageCache, want)
}

// TestRandomDamage changes bytes anywhere.
func TestRandomDamage(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, media := range []pmem.Media{pmem.PageCache, pmem.Tmpfs} {
		for _, closed := range []bool{true, false} {
			image, want := damageImage(t, media, closed)
			for range alone(200, 40, 8) {
				broken := bytes.Clone(image)
				for range 1 + r.IntN(4) {
					at := r.IntN(len(broken))
					switch r.IntN(3) {
					case 0:
						broken[at] ^= 1 << r.IntN(8)
					case 1:
						broken[at] = byte(r.Uint32())
					default:
						clear(broken[at:min(len(broken), at+r.IntN(600))])
					}
				}
				probe(t, broken, media, want)
			}
		}
	}
}

// FuzzDamagedFile lets the fuzzer choose the damage: offset, length and bytes.
func FuzzDamagedFile(f *testing.F) {
	clean, want := damageImage(f, pmem.PageCache, true)
	killed, _ := damageImage(f, pmem.Tmpfs, false)
	f.Add(false, uint32(64), []byte{1, 2, 3})
	f.Add(true, uint32(12288), []byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, unclosed bool, at uint32, bytesThere []byte) {
		image, media := bytes.Clone(clean), pmem.PageCache
		if unclosed {
			image, media = bytes.Clone(killed), pmem.Tmpfs
		}
		copy(image[int(at)%len(image):], bytesThere)
		probe(t, image, media, want)
	})
}

// FuzzOperations decodes bytes into operations and compares with a map. Two bytes
// are an operation: what to do and to which key; a reopening is one of them.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 1, 1, 7, 0, 2, 2})
	f.Add(bytes.Repeat([]byte{0, 3, 0, 9, 1, 3, 6, 0}, 40))
	f.Fuzz(fuzzOps)
}

func fuzzOps(t *testing.T, ops []byte) {
	h := pmem.NewHeap(nil, 2<<20)
	po := pmem.Options{Media: pmem.Tmpfs, Geometry: tiny(1)}
	tab := openOn(t, h, po, nil)
	want := make(map[string]string)
	for i := 0; i+1 < len(ops) && i < 600; i += 2 {
		k := key(int(ops[i+1]))
		v := value(i, int(ops[i])*3)
		switch ops[i] % 8 {
		case 0, 1, 2:
			require.NoError(t, tab.Put(k, v))
			want[string(k)] = string(v)
		case 3:
			require.NoError(t, tab.Delete(k))
			delete(want, string(k))
		case 4:
			old, had := want[string(k)]
			did, err := tab.CompareAndSwap(k, []byte(old), v)
			require.NoError(t, err)
			require.Equal(t, had, did)
			if had {
				want[string(k)] = string(v)
			}
		case 5:
			b := table.NewBatch()
			b.Put(k, v)
			b.Delete(key(int(ops[i+1]) + 1))
			require.NoError(t, tab.Apply(b))
			want[string(k)] = string(v)
			delete(want, string(key(int(ops[i+1])+1)))
		case 6:
			tab.DieHeld()
			h.Abandon()
			tab = openOn(t, h, po, nil)
		default:
			require.NoError(t, tab.Close())
			tab = openOn(t, h, po, nil)
		}
	}
	require.Equal(t, want, contents(t, tab))
	require.Equal(t, len(want), tab.Len())
	_, err := tab.Check()
	require.NoError(t, err)
	require.NoError(t, tab.Close())
}
