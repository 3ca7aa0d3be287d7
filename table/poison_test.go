package table_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: after a sync that failed, an acknowledgement of
// what is not durable, an answer from what may be lost, or a next open that takes
// for durable what the failed sync was to make so.

var errMedium = errors.New("the medium's error")

// failingSyncs is a hook that fails every Sync from the n-th on; negative: none.
type failingSyncs struct{ left atomic.Int64 }

func (h *failingSyncs) Store(_, _ uint64, apply func())       { apply() }
func (h *failingSyncs) Copy(_ uint64, _ []byte, apply func()) { apply() }
func (h *failingSyncs) WriteBack(uint64, int)                 {}
func (h *failingSyncs) Drain()                                {}

func (h *failingSyncs) Sync(apply func() error) error {
	switch left := h.left.Load(); {
	case left == 0:
		return errMedium
	case left > 0:
		h.left.Add(-1)
	}
	return apply()
}

func (h *failingSyncs) SyncRange(_ uint64, _ int, apply func() error) error { return h.Sync(apply) }

func TestPoison(t *testing.T) {
	writes := map[string]func(tab *table.Table) error{
		"Put":              func(tab *table.Table) error { return tab.Put(b("new"), nil) },
		"Put over":         func(tab *table.Table) error { return tab.Put(b("old"), nil) },
		"Delete":           func(tab *table.Table) error { return tab.Delete(b("old")) },
		"Delete of none":   func(tab *table.Table) error { return tab.Delete(b("none")) },
		"PutIfAbsent":      func(tab *table.Table) error { return second(tab.PutIfAbsent(b("new"), nil)) },
		"CompareAndSwap":   func(tab *table.Table) error { return second(tab.CompareAndSwap(b("old"), b("good"), nil)) },
		"CompareAndDelete": func(tab *table.Table) error { return second(tab.CompareAndDelete(b("old"), b("good"))) },
		"Swap":             func(tab *table.Table) error { return third(tab.Swap(b("new"), nil)) },
		"GetAndDelete":     func(tab *table.Table) error { return third(tab.GetAndDelete(b("old"))) },
		"Clear":            func(tab *table.Table) error { return tab.Clear() },
		"Sync":             func(tab *table.Table) error { return tab.Sync() },
		"Update": func(tab *table.Table) error {
			return tab.Update(b("old"), func([]byte, bool) ([]byte, table.Op) { return nil, table.Store })
		},
	}
	for _, durability := range []table.Durability{table.Always, table.OnSync} {
		for left := range int64(2) { // the first sync of the commit fails, or the second
			for _, reboot := range []bool{false, true} {
				for _, large := range []bool{false, true} { // a commit by one sync, or by two
					t.Run(fmt.Sprintf("%v, sync %d, reboot %v, large %v", durability, left, reboot, large), func(t *testing.T) {
						hook := new(failingSyncs)
						hook.left.Store(-1)
						h := pmem.NewHeap(nil, 4<<20)
						po := pmem.Options{Geometry: tiny(2), Hook: hook}
						tab := openOn(t, h, po, &table.Options{Durability: durability})
						want := map[string]string{"old": "good", "other": "good"}
						for k, v := range want {
							require.NoError(t, tab.Put(b(k), b(v)))
						}
						require.NoError(t, tab.Sync())
						if durability == table.OnSync {
							require.NoError(t, tab.Put(b("old"), b("lost")))
							require.NoError(t, tab.Delete(b("other")))
							if large {
								for i := range 300 {
									require.NoError(t, tab.Put(key(i), value(i, 100)))
								}
							}
						}
						hook.left.Store(left)
						var err error
						for n := 0; err == nil && n < 3; n++ { // a commit by one sync needs two to fail the second
							if durability == table.OnSync {
								require.NoError(t, tab.Put(b("more"), fmt.Append(nil, n)))
								err = tab.Sync()
							} else {
								err = tab.Put(b("old"), b("lost"))
							}
							if err == nil { // it was in time
								want = contents(t, tab)
							}
						}
						require.ErrorIs(t, err, table.ErrPoisoned)
						require.ErrorIs(t, err, errMedium)
						require.ErrorContains(t, err, "heap")
						require.Contains(t, tab.Stats().Poisoned, errMedium.Error())

						hook.left.Store(-1) // the medium recovers; the table does not
						answers := func() {
							t.Helper()
							require.Equal(t, want, contents(t, tab))
							require.Equal(t, len(want), tab.Len())
							for k, v := range want {
								got, err := tab.Get(b(k))
								require.NoError(t, err)
								require.Equal(t, v, string(got))
								require.NoError(t, tab.View(b(k), func(got []byte) error {
									require.Equal(t, v, string(got))
									return nil
								}))
							}
							has, err := tab.Has(b("new"))
							require.NoError(t, err)
							require.False(t, has)
						}
						answers()
						for name, write := range writes {
							require.ErrorIs(t, write(tab), table.ErrPoisoned, name)
						}
						answers()
						require.ErrorIs(t, tab.Close(), table.ErrPoisoned)
						require.ErrorIs(t, tab.Close(), table.ErrPoisoned, "the same each time")
						_, err = tab.Get(b("old"))
						require.ErrorIs(t, err, table.ErrClosed)

						if reboot {
							h.Reboot()
						}
						tab = openOn(t, h, po, &table.Options{Durability: durability})
						require.Contains(t, tab.Stats().OpenedFrom, "a sync failed")
						require.Equal(t, want, contents(t, tab))
						require.Equal(t, len(want), checked(t, tab).Entries)
						require.NoError(t, tab.Put(b("after"), b("wards")))
						require.NoError(t, tab.Sync())
						want["after"] = "wards"
						kill(tab)
						h.Reboot()
						tab = openOn(t, h, po, nil)
						require.Equal(t, want, contents(t, tab))
						checked(t, tab)
						require.NoError(t, tab.Close())
					})
				}
			}
		}
	}
}

// TestPoisonBesideCallers: what was acknowledged before the sync failed is there
// afterwards, in the table and at the next open, and nothing later.
func TestPoisonBesideCallers(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	r := seeded(t)
	for range rounds {
		hook := new(failingSyncs)
		hook.left.Store(int64(10 + r.IntN(40)))
		h := pmem.NewHeap(nil, 4<<20)
		po := pmem.Options{Geometry: tiny(2), Hook: hook}
		tab := openOn(t, h, po, nil)
		const writers = 4
		var (
			wg           sync.WaitGroup
			acknowledged [writers]uint32
			begun        [writers]uint32
		)
		for w := range uint32(writers) {
			wg.Go(func() {
				for version := uint32(1); ; version++ {
					begun[w] = version
					err := tab.Put(key(int(w)), told(w, version, 3))
					if err != nil {
						assert.ErrorIs(t, err, table.ErrPoisoned)
						return
					}
					acknowledged[w] = version
				}
			})
		}
		wg.Go(func() { // readers of all kinds meet the switch of roots
			for tab.Sync() == nil {
				for w := range uint32(writers) {
					if v, err := tab.Get(key(int(w))); err == nil {
						_, err = readTold(w, v)
						assert.NoError(t, err)
					} else {
						assert.ErrorIs(t, err, table.ErrNotFound)
					}
				}
				for range tab.All() {
				}
				assert.NoError(t, tab.Err())
			}
		})
		wg.Wait()
		verify := func() map[string]string {
			for w := range uint32(writers) {
				version := uint32(0)
				v, err := tab.Get(key(int(w)))
				if !errors.Is(err, table.ErrNotFound) {
					require.NoError(t, err)
					version, err = readTold(w, v)
					require.NoError(t, err)
				}
				// What is committed was acknowledged, or was about to be.
				require.GreaterOrEqual(t, version, acknowledged[w])
				require.LessOrEqual(t, version, begun[w])
			}
			return contents(t, tab)
		}
		before := verify()
		hook.left.Store(-1)
		require.ErrorIs(t, tab.Close(), table.ErrPoisoned)
		tab = openOn(t, h, po, nil)
		require.Equal(t, before, verify())
		checked(t, tab)
		require.NoError(t, tab.Close())
	}
}

// TestSyncFailsAtOpenAndClose: an open or a Close that cannot sync says so, and
// the next one, which can, finds everything.
func TestSyncFailsAtOpenAndClose(t *testing.T) {
	hook := new(failingSyncs)
	hook.left.Store(-1)
	h := pmem.NewHeap(nil, 4<<20)
	po := pmem.Options{Geometry: tiny(1), Hook: hook}
	tab := openOn(t, h, po, nil)
	require.NoError(t, tab.Put(b("key"), b("value")))
	hook.left.Store(0)
	require.Error(t, tab.Close())
	for range 3 {
		p, err := pmem.OpenHeap(h, po)
		require.NoError(t, err)
		_, err = table.OpenPool(p, nil)
		require.ErrorIs(t, err, errMedium)
	}
	hook.left.Store(-1)
	tab = openOn(t, h, po, nil)
	require.Equal(t, map[string]string{"key": "value"}, contents(t, tab))
	checked(t, tab)
	require.NoError(t, tab.Close())
}
