package table_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: a batch that does other than its operations in
// their order, or does something though it returns an error, or shares slices with
// its caller, or waits for another one for ever.

// TestBatchIsItsOperations compares batches with a map.
func TestBatchIsItsOperations(t *testing.T) {
	medias := mediaHere()
	rapid.Check(t, func(rt *rapid.T) {
		h := pmem.NewHeap(nil, 2<<20)
		po := pmem.Options{Geometry: tiny(1 << rapid.IntRange(0, 2).Draw(rt, "stripes")), Media: rapid.SampledFrom(medias).Draw(rt, "medium")}
		tab := openOn(rt, h, po, &table.Options{Durability: table.OnSync})
		want := diskState{entries: map[string]string{}}
		b := table.NewBatch()
		for range rapid.IntRange(1, 8).Draw(rt, "batches") {
			if rapid.Bool().Draw(rt, "reset") {
				b.Reset()
			} else {
				b = table.NewBatch()
			}
			touched := map[string]bool{}
			for range rapid.IntRange(0, 60).Draw(rt, "operations") {
				k := fmt.Sprint("key ", rapid.IntRange(0, 40).Draw(rt, "key"))
				touched[k] = true
				key := []byte(k)
				if rapid.IntRange(0, 2).Draw(rt, "kind") == 0 {
					b.Delete(key)
					delete(want.entries, k)
				} else {
					v := value(rapid.IntRange(0, 255).Draw(rt, "value"), rapid.IntRange(0, 70).Draw(rt, "size"))
					want.entries[k] = string(v)
					b.Put(key, v)
					clear(v)
				}
				clear(key)
			}
			require.Equal(rt, len(touched), b.Len())
			if rapid.Bool().Draw(rt, "metadata") {
				meta := value(rapid.IntRange(0, 255).Draw(rt, "metadata value"), rapid.IntRange(0, 3000).Draw(rt, "metadata size"))
				want.meta = string(meta)
				b.SetMetadata(meta)
				clear(meta)
			}
			require.NoError(rt, tab.Apply(b))
			if rapid.IntRange(0, 3).Draw(rt, "again") == 0 { // it is the same batch
				require.NoError(rt, tab.Apply(b))
			}
			have, err := readState(tab)
			require.NoError(rt, err)
			require.Empty(rt, diffOf(want, have))
			switch rapid.IntRange(0, 3).Draw(rt, "then") {
			case 0:
				require.NoError(rt, tab.Sync())
			case 1:
				require.NoError(rt, tab.Close())
				tab = openOn(rt, h, po, &table.Options{Durability: table.OnSync})
			case 2:
				kill(tab)
				tab = openOn(rt, h, po, &table.Options{Durability: table.OnSync})
			}
		}
		have, err := readState(tab)
		require.NoError(rt, err)
		require.Empty(rt, diffOf(want, have))
		require.NoError(rt, tab.Close())
	})
}

func TestBatchLastOperationCounts(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		require.NoError(t, tab.Put(b("there"), b("before")))
		batch := table.NewBatch()
		batch.Put(b("a"), b("1"))
		batch.Put(b("a"), b("2"))
		batch.Delete(b("b"))
		batch.Put(b("b"), b("3"))
		batch.Put(b("c"), b("4"))
		batch.Delete(b("c"))
		batch.Delete(b("there"))
		batch.Put(b("there"), nil)
		batch.Put(nil, b("empty key"))
		batch.SetMetadata(b("one"))
		batch.SetMetadata(b("two"))
		require.Equal(t, 5, batch.Len())
		require.NoError(t, tab.Apply(batch))
		require.Equal(t, map[string]string{"a": "2", "b": "3", "there": "", "": "empty key"}, contents(t, tab))
		meta, err := tab.Metadata()
		require.NoError(t, err)
		require.Equal(t, "two", string(meta))

		batch.Reset()
		require.Zero(t, batch.Len())
		require.NoError(t, tab.Apply(batch)) // nothing, metadata included
		meta, err = tab.Metadata()
		require.NoError(t, err)
		require.Equal(t, "two", string(meta))
		meta[0] = 'x' // a copy
		batch.SetMetadata(nil)
		require.NoError(t, tab.Apply(batch))
		meta, err = tab.Metadata()
		require.NoError(t, err)
		require.Empty(t, meta)
		batch.SetMetadata(b("three"))
		require.NoError(t, tab.Apply(batch))
		require.NoError(t, tab.Clear())
		meta, err = tab.Metadata()
		require.NoError(t, err)
		require.Equal(t, "three", string(meta), "Clear keeps the metadata")
		require.Zero(t, tab.Len())
		checked(t, tab)
	})
}

// TestBatchOfFullSize: a table that Open made takes a batch of MaxBatch keys and the
// metadata record, and none that is larger.
func TestBatchOfFullSize(t *testing.T) {
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Stripes: 2, Durability: table.OnSync})
	require.NoError(t, err)
	defer tab.Close()
	batch := table.NewBatch()
	batch.SetMetadata(b("metadata"))
	for i := range table.MaxBatch {
		batch.Put(key(i), nil)
	}
	require.NoError(t, tab.Apply(batch))
	require.Equal(t, table.MaxBatch, tab.Len())
	batch.Delete(key(0))
	require.NoError(t, tab.Apply(batch), "a key counts once")
	require.Equal(t, table.MaxBatch-1, tab.Len())
	batch.Put(key(table.MaxBatch), nil)
	err = tab.Apply(batch)
	require.ErrorIs(t, err, table.ErrTooLarge)
	require.ErrorContains(t, err, "a batch of 4092 changes, the limit is 4091")
	require.Equal(t, table.MaxBatch-1, tab.Len())
}

// TestBatchThatCannotBe: one that is too large, or finds no room, changes nothing,
// and keeps no space.
func TestBatchThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, media := range mediaFor(t) {
		t.Run(media.String(), func(t *testing.T) {
			tab := onHeap(t, media, 1, 512<<10)
			first := table.NewBatch()
			first.Put(b("key"), b("before"))
			first.SetMetadata(b("before"))
			require.NoError(t, tab.Apply(first))
			want, err := readState(tab)
			require.NoError(t, err)
			unchanged := func() {
				t.Helper()
				have, err := readState(tab)
				require.NoError(t, err)
				require.Empty(t, diffOf(want, have))
			}
			limit := tiny(1).MaxIntentStores() - 1
			large := table.NewBatch()
			for i := range limit + 1 {
				large.Put(key(i), nil)
			}
			require.ErrorIs(t, tab.Apply(large), table.ErrTooLarge)
			unchanged()
			longKey := table.NewBatch()
			longKey.Put(b("key"), b("after"))
			longKey.SetMetadata(b("after"))
			longKey.Put(make([]byte, layout.MaxKeyBytes+1), nil)
			require.ErrorIs(t, tab.Apply(longKey), table.ErrTooLarge)
			longKey.Reset()
			longKey.Delete(make([]byte, layout.MaxKeyBytes+1))
			require.ErrorIs(t, tab.Apply(longKey), table.ErrTooLarge)
			unchanged()

			tab.MakeRoom()
			used := tab.Stats().UsedBytes
			for n := range 4 {
				full := table.NewBatch()
				full.SetMetadata(b("after"))
				for i := range limit {
					full.Put(key(i), make([]byte, 4000+n))
				}
				require.ErrorIs(t, tab.Apply(full), table.ErrFull)
				unchanged()
			}
			tab.MakeRoom()
			require.LessOrEqual(t, tab.Stats().UsedBytes, used, "a batch that failed kept some space")

			fits := table.NewBatch()
			for i := range limit {
				fits.Put(key(i), nil)
			}
			fits.SetMetadata(b("after"))
			require.NoError(t, tab.Apply(fits))
			require.Equal(t, limit+1, tab.Len())
			checked(t, tab)
		})
	}
}

// TestBatchOfEqualHashes: every key of it goes to one line, so that it splits,
// and then chains, in the middle of its plan.
func TestBatchOfEqualHashes(t *testing.T) {
	t.Parallel()
	for _, media := range mediaFor(t) {
		for name, hash := range map[string]func(key []byte) uint64{
			"all equal": func([]byte) uint64 { return 0x123456789abcdef0 },
			"two lines": func(key []byte) uint64 { return uint64(key[0]&1) << 31 },
			"two halves": func(key []byte) uint64 {
				return uint64(key[0]&1) << 63
			},
			"all of one line": func(key []byte) uint64 { return uint64(key[0]) << 56 },
		} {
			t.Run(media.String()+"/"+name, func(t *testing.T) {
				r := seeded(t)
				p, err := pmem.OpenHeap(pmem.NewHeap(nil, 4<<20), pmem.Options{Geometry: tiny(1), Media: media})
				require.NoError(t, err)
				tab, err := table.OpenColliding(p, &table.Options{Durability: table.OnSync}, hash)
				require.NoError(t, err)
				want := diskState{entries: map[string]string{}}
				for round := range 12 {
					b := table.NewBatch()
					for range 10 + r.IntN(60) {
						k := string([]byte{byte(r.IntN(8)), byte(r.IntN(24))})
						if r.IntN(3) == 0 {
							b.Delete([]byte(k))
							delete(want.entries, k)
							continue
						}
						v := string(value(round, r.IntN(30)))
						b.Put([]byte(k), []byte(v))
						want.entries[k] = v
					}
					require.NoError(t, tab.Apply(b))
					have, err := readState(tab)
					require.NoError(t, err)
					require.Empty(t, diffOf(want, have))
				}
				require.NoError(t, tab.Close())
			})
		}
	}
}

// TestBatchesBesideEverything: batches of the same keys in any order, beside all
// other calls, end; and nothing is lost or torn.
func TestBatchesBesideEverything(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			tab := onHeap(t, media, 4, 24<<20)
			bank := newBank(t, tab, 1)
			const shared = 30
			var wg sync.WaitGroup
			run := func(fn func(r *rand.Rand, n int) error) {
				source := rand.New(rand.NewPCG(r.Uint64(), 0))
				wg.Go(func() {
					for n := 0; !bank.stop.Load(); n++ {
						if !assert.NoError(t, fn(source, n)) {
							return
						}
					}
				})
			}
			wg.Go(func() { assert.NoError(t, bank.work(0, rand.New(rand.NewPCG(1, 1)))) })
			// Batches that put the same version under all shared keys: a snapshot
			// sees one version.
			for range 2 {
				run(func(r *rand.Rand, n int) error {
					b, version := table.NewBatch(), r.Uint32()
					for _, i := range r.Perm(shared) {
						b.Put(key(i), told(uint32(i), version, 1+r.IntN(4)))
					}
					return tab.Apply(b)
				})
			}
			run(func(r *rand.Rand, n int) error { // a counter that no batch may lose
				return tab.Update(b("counter"), func(old []byte, exists bool) ([]byte, table.Op) {
					v := uint64(0)
					if exists {
						v = binary.LittleEndian.Uint64(old)
					}
					return binary.LittleEndian.AppendUint64(nil, v+1), table.Store
				})
			})
			run(func(r *rand.Rand, n int) error {
				i := r.IntN(100)
				err := tab.PutMany([][]byte{key(200 + i), key(300 + i), key(400 + i)}, [][]byte{nil, value(i, 50), nil})
				if err == nil && n%3 == 0 {
					err = tab.Delete(key(300 + i))
				}
				return err
			})
			run(func(r *rand.Rand, n int) error {
				time.Sleep(time.Millisecond)
				if n%10 == 0 {
					return tab.Compact()
				}
				return tab.Sync()
			})
			for n := range rounds(50, 6) {
				before := bank.done.Load()
				for bank.done.Load() < before+3 && !t.Failed() {
					time.Sleep(10 * time.Microsecond)
				}
				s, err := tab.Snapshot()
				require.NoError(t, err)
				require.NoError(t, bank.audit(s.Get, s.Metadata))
				versions := map[uint32]bool{}
				for i := range shared {
					v, err := s.Get(key(i))
					if err == table.ErrNotFound {
						continue
					}
					require.NoError(t, err)
					version, err := readTold(uint32(i), v)
					require.NoError(t, err)
					versions[version] = true
				}
				require.LessOrEqual(t, len(versions), 1, "a snapshot in the middle of a batch, round %d", n)
				require.NoError(t, s.Close())
			}
			bank.stop.Store(true)
			wg.Wait()
			report := checked(t, tab)
			require.Equal(t, tab.Len(), report.Entries)
		})
	}
}
