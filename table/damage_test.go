package table_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
	"pmemtable/table"
)

// Looks for: a panic, a hang, or a wrong answer on a file that was cut off or
// changed. What is found must be right, or an error.

// victim is an image of a small table to be damaged, and what is in it.
type victim struct {
	name    string
	image   []byte
	media   pmem.Media
	reboots bool // it is opened after power loss
	want    map[string]string
}

// victims are tables that were closed in order, left by a kill, and left by power loss
// with most of their entries in the log.
func victims(t testing.TB) []victim {
	logged := tiny(2)
	logged.LogBytes = 8 << 10
	return []victim{
		newVictim(t, "closed", pmem.PageCache, tiny(2), table.OnSync, true),
		newVictim(t, "killed", pmem.PageCache, tiny(2), table.OnSync, false),
		newVictim(t, "killed on tmpfs", pmem.Tmpfs, tiny(2), table.OnSync, false),
		newVictim(t, "logged", pmem.PageCache, logged, table.Always, false),
	}
}

func newVictim(t testing.TB, name string, media pmem.Media, g pmem.Geometry, d table.Durability, closed bool) victim {
	h := pmem.NewHeap(nil, 4<<20)
	tab := openOn(t, h, pmem.Options{Media: media, Geometry: g}, &table.Options{Durability: d})
	v := victim{name: name, media: media, reboots: d == table.Always, want: make(map[string]string)}
	for i := range 60 {
		k, value := key(i), value(i, i*7%300)
		require.NoError(t, tab.Put(k, value))
		v.want[string(k)] = string(value)
	}
	if closed {
		require.NoError(t, tab.Close())
	} else {
		tab.DieHeld()
	}
	v.image = h.Image()
	return v
}

// probe is that of the victim's image, damaged.
func (v *victim) probe(t testing.TB, image []byte) { probeAfter(t, image, v.media, v.reboots, v.want) }

// probe opens a damaged image every way and uses it. Damage may be anything but a
// forged checksum, so a value that is returned must be one that was stored. Repair
// finds nothing else either.
func probe(t testing.TB, image []byte, media pmem.Media, want map[string]string) {
	probeAfter(t, image, media, false, want)
}

// probeAfter is probe, perhaps after power loss.
func probeAfter(t testing.TB, image []byte, media pmem.Media, reboot bool, want map[string]string) {
	for _, readOnly := range []bool{true, false} {
		h := pmem.NewHeap(image, 6<<20)
		if reboot {
			h.Reboot()
		}
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

// everyDamage: the long size flips every bit and cuts off at every byte.
func everyDamage() bool { return os.Getenv("PMEMTABLE_CRASH") == "long" }

// TestEveryBitOfTheFixedParts flips the bits of what the fixed parts use, one by
// one: some of them, or all in the long run.
func TestEveryBitOfTheFixedParts(t *testing.T) {
	t.Parallel()
	step := alone(13, 197, 997)
	if everyDamage() {
		step = 1
	}
	for _, v := range victims(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			header, err := layout.DecodeHeader(v.image)
			require.NoError(t, err)
			g := header.Geometry()
			regions, n := g.Regions(), 0
			var spans [][2]int
			span := func(at uint64, sizeBytes int) {
				if everyDamage() {
					spans = append(spans, [2]int{int(at), int(at) + sizeBytes})
					return
				}
				end := int(at) + sizeBytes // where checksums are
				spans = append(spans, [2]int{int(at), int(at) + 96}, [2]int{end - 8, end})
			}
			span(0, layout.PageBytes)
			for i := range 2 {
				span(regions.Session[i], layout.PageBytes)
				span(regions.Superblock[i], g.SuperblockBytes())
				span(regions.Root[i], layout.RootStripes+max(g.Stripes*layout.WordBytes, 96))
			}
			span(regions.Control, 96)
			span(regions.Intent, 96)
			if g.LogBytes > 0 {
				span(regions.Log, 512)
			}
			image := bytes.Clone(v.image)
			for _, s := range spans {
				for bit := s[0] * 8; bit < s[1]*8; bit++ {
					if n++; n%step != 0 {
						continue
					}
					image[bit/8] ^= 1 << (bit % 8)
					v.probe(t, image)
					image[bit/8] ^= 1 << (bit % 8)
				}
			}
			t.Logf("%d of %d bits", n/step, n)
		})
	}
}

// TestEveryLength cuts the file off everywhere that matters, or everywhere in the long
// run.
func TestEveryLength(t *testing.T) {
	t.Parallel()
	step := alone(1024, 8192, 8*4096)
	if everyDamage() {
		step = 1
	}
	for _, v := range victims(t) {
		if v.name != "closed" && v.name != "logged" {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			lengths := 0
			for n := step; n < len(v.image); n++ {
				if step > 2 && (n+1)%step > 2 { // one less, as many, one more
					continue
				}
				v.probe(t, v.image[:n])
				lengths++
			}
			t.Logf("%d lengths of a file of %d bytes", lengths, len(v.image))
			v.probe(t, bytes.Repeat([]byte{0}, len(v.image)))
			v.probe(t, bytes.Repeat([]byte("not a table "), len(v.image)/12))
		})
	}
}

// TestRandomDamage changes bytes anywhere.
func TestRandomDamage(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, v := range victims(t) {
		for range alone(200, 40, 8) {
			broken := bytes.Clone(v.image)
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
			v.probe(t, broken)
		}
	}
}

// FuzzDamagedFile lets the fuzzer choose the table and the damage: offset and bytes.
func FuzzDamagedFile(f *testing.F) {
	all := victims(f)
	f.Add(uint8(0), uint32(64), []byte{1, 2, 3})
	f.Add(uint8(2), uint32(12288), []byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint8(3), uint32(tiny(2).Regions().Log+20), []byte{9})
	f.Fuzz(func(t *testing.T, which uint8, at uint32, bytesThere []byte) {
		v := &all[int(which)%len(all)]
		image := bytes.Clone(v.image)
		copy(image[int(at)%len(image):], bytesThere)
		v.probe(t, image)
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
