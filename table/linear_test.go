package table_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/race"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: results of concurrent calls that no order of the
// calls explains: a read that goes back in time, a compare-and-swap that succeeds
// twice, a writer that loses another's change. Histories are short, on keys of one
// line and window, while others split, copy and reuse around them. Time is a
// counter.

// call is one call of a history, and result what it returned.
type call struct {
	kind       string
	key        int
	value, old string // stored; expected
}

type result struct {
	value string
	yes   bool
	n     int
}

// state is what a key holds; none is no value.
const none = "-"

// stepKey is the sequential meaning of a call on one key.
func stepKey(state string, c call, r result) (bool, string) {
	exists := state != none
	put := func(did bool) string {
		if did {
			return c.value
		}
		return state
	}
	switch c.kind {
	case "Get", "View":
		return r.value == state, state
	case "Has":
		return r.yes == exists, state
	case "Put":
		return true, c.value
	case "Delete":
		return true, none
	case "PutIfAbsent":
		return r.yes == !exists, put(!exists)
	case "CompareAndSwap":
		return r.yes == (state == c.old), put(state == c.old)
	case "CompareAndDelete":
		if state == c.old {
			return r.yes, none
		}
		return !r.yes, state
	case "Swap":
		return r.value == state, c.value
	case "GetAndDelete":
		return r.value == state, none
	case "Update":
		return r.value == state, put(true)
	}
	return false, state
}

// One model per key, and one of the whole table, for calls that touch all of it.
var keyModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, linearKeys)
		for _, o := range history {
			k := o.Input.(call).key
			parts[k] = append(parts[k], o)
		}
		return parts
	},
	Init: func() any { return none },
	Step: func(state, input, output any) (bool, any) {
		return stepKey(state.(string), input.(call), output.(result))
	},
}

var tableModel = porcupine.Model{
	Init: func() any { return [linearKeys]string{none, none, none, none, none} },
	Step: func(state, input, output any) (bool, any) {
		all, c, r := state.([linearKeys]string), input.(call), output.(result)
		switch c.kind {
		case "Clear":
			for i := range all {
				all[i] = none
			}
			return true, all
		case "Len":
			n := 0
			for _, v := range all {
				if v != none {
					n++
				}
			}
			return r.n == n, all
		}
		ok, next := stepKey(all[c.key], c, r)
		all[c.key] = next
		return ok, all
	},
}

const linearKeys = 5

// linearHash puts the keys of the histories on one line, with equal tags or with
// different ones; the keys beside them go where their own hash says.
func linearHash(key []byte) uint64 {
	n := uint64(key[len(key)-1])
	switch string(key[:1]) {
	case "e":
		return 0x1234_5678_9abc_def0
	case "t":
		return 0x1234_5678_9abc_def0 ^ n<<44
	}
	h := uint64(0)
	for _, b := range key {
		h = (h ^ uint64(b)) * 0x9e3779b97f4a7c15
	}
	return h
}

// perform makes one call.
func perform(t assert.TestingT, tab *table.Table, prefix string, c call) (r result) {
	k := append([]byte(prefix), byte(c.key))
	value := func(v []byte, there bool, err error) {
		r.value, r.yes = none, there
		if there {
			r.value = string(v)
		}
		assert.NoError(t, err)
	}
	got := func(v []byte, err error) {
		there := !errors.Is(err, table.ErrNotFound)
		if !there {
			err = nil
		}
		value(v, there, err)
	}
	did := func(yes bool, err error) {
		r.yes = yes
		assert.NoError(t, err)
	}
	switch c.kind {
	case "Get":
		got(tab.Get(k))
	case "View":
		var seen []byte
		err := tab.View(k, func(v []byte) error { seen = slices.Clone(v); return nil })
		got(seen, err)
	case "Has":
		did(tab.Has(k))
	case "Put":
		did(true, tab.Put(k, []byte(c.value)))
	case "Delete":
		did(true, tab.Delete(k))
	case "PutIfAbsent":
		did(tab.PutIfAbsent(k, []byte(c.value)))
	case "CompareAndSwap":
		did(tab.CompareAndSwap(k, []byte(c.old), []byte(c.value)))
	case "CompareAndDelete":
		did(tab.CompareAndDelete(k, []byte(c.old)))
	case "Swap":
		value(tab.Swap(k, []byte(c.value)))
	case "GetAndDelete":
		value(tab.GetAndDelete(k))
	case "Update":
		did(true, tab.Update(k, func(old []byte, exists bool) ([]byte, table.Op) {
			r.value = none
			if exists {
				r.value = string(old)
			}
			return []byte(c.value), table.Store
		}))
	case "Clear":
		did(true, tab.Clear())
	case "Len":
		r.n = tab.Len()
	}
	return r
}

// draw draws a call. Values come from few, so that comparisons succeed at times.
func draw(r *rand.Rand, kinds []string, client, i int) call {
	old := fmt.Sprint("v", r.IntN(4))
	value := fmt.Sprint("v", r.IntN(4))
	if r.IntN(3) == 0 {
		value = fmt.Sprintf("client %d, call %d", client, i) // or nobody else's
	}
	return call{kind: kinds[r.IntN(len(kinds))], key: r.IntN(linearKeys), value: value, old: old}
}

// history runs clients beside each other and returns what they saw.
func history(t *testing.T, tab *table.Table, prefix string, r *rand.Rand, kinds []string, clients, calls int) []porcupine.Operation {
	var (
		clock atomic.Int64
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   []porcupine.Operation
		begin = make(chan struct{})
	)
	for client := range clients {
		r := rand.New(rand.NewPCG(r.Uint64(), uint64(client)))
		wg.Go(func() {
			<-begin
			for i := range calls {
				c := draw(r, kinds, client, i)
				from := clock.Add(1)
				out := perform(t, tab, prefix, c)
				to := clock.Add(1)
				mu.Lock()
				all = append(all, porcupine.Operation{ClientId: client, Input: c, Call: from, Output: out, Return: to})
				mu.Unlock()
			}
		})
	}
	close(begin)
	wg.Wait()
	return all
}

func story(history []porcupine.Operation) string {
	var b strings.Builder
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range history {
		fmt.Fprintf(&b, "%4d-%-4d client %d: %+v -> %+v\n", o.Call, o.Return, o.ClientId, o.Input, o.Output)
	}
	return b.String()
}

func TestLinearizable(t *testing.T) {
	histories := 300
	if testing.Short() || race.Enabled {
		histories = 40
	}
	onKeys := []string{"Get", "Get", "View", "Has", "Put", "Put", "Delete", "PutIfAbsent", "CompareAndSwap", "CompareAndSwap",
		"CompareAndDelete", "Swap", "GetAndDelete", "Update"}
	onAll := append([]string{"Clear", "Len"}, onKeys[:11]...)
	for _, media := range []pmem.Media{pmem.PageCache, pmem.Tmpfs, pmem.DAX} { // a hook drains in flush's place
		for _, prefix := range []string{"equal", "tags"} {
			for _, whole := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v, %s, whole table %v", media, prefix, whole), func(t *testing.T) {
					r := seeded(t)
					p, err := pmem.OpenHeap(pmem.NewHeap(nil, 4<<20), pmem.Options{Geometry: tiny(1), Media: media, Hook: new(interrupter)})
					require.NoError(t, err)
					tab, err := table.OpenColliding(p, &table.Options{Durability: table.OnSync}, linearHash)
					require.NoError(t, err)
					overlaps := 0
					for range histories {
						model, kinds, clients, calls := keyModel, onKeys, 4+r.IntN(5), 4+r.IntN(8)
						stop := func() {}
						if whole {
							model, kinds, clients, calls = tableModel, onAll, 4, 4
						} else {
							stop = commotion(t, tab, r.Uint64())
						}
						h := history(t, tab, prefix, r, kinds, clients, calls)
						stop()
						if !porcupine.CheckOperations(model, h) {
							t.Fatalf("no order of these calls explains their results:\n%s", story(h))
						}
						for i, o := range h {
							if i > 0 && o.Call < h[i-1].Return {
								overlaps++
							}
						}
						for k := range linearKeys {
							require.NoError(t, tab.Delete(append([]byte(prefix), byte(k))))
						}
					}
					require.Positive(t, overlaps, "no two calls ever overlapped")
					checked(t, tab)
					require.NoError(t, tab.Close())
				})
			}
		}
	}
}

// commotion splits, copies and reuses beside a history, until it is stopped.
func commotion(t *testing.T, tab *table.Table, seed uint64) (stop func()) {
	var over atomic.Bool
	var wg sync.WaitGroup
	r := rand.New(rand.NewPCG(seed, 0))
	wg.Go(func() {
		for i := 0; !over.Load(); i++ {
			k := fmt.Appendf(nil, "other %d", r.IntN(400))
			if r.IntN(4) == 0 {
				assert.NoError(t, tab.Delete(k))
			} else {
				assert.NoError(t, tab.Put(k, value(i, 30)))
			}
			if i%16 == 0 {
				assert.NoError(t, tab.Sync()) // a cut: what comes next copies its segment
			}
		}
	})
	return func() {
		over.Store(true)
		wg.Wait()
	}
}
