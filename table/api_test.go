package table_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/race"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: a method that does other than its comment says,
// on any medium; a difference between nil and empty; slices that the table keeps
// or that it shares with its caller.

func b(s string) []byte { return []byte(s) }

func TestEveryMethod(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		k := b("key")
		absent := func() {
			t.Helper()
			_, err := tab.Get(k)
			require.ErrorIs(t, err, table.ErrNotFound)
			dst, err := tab.AppendGet(b("before"), k)
			require.ErrorIs(t, err, table.ErrNotFound)
			require.Equal(t, "before", string(dst))
			has, err := tab.Has(k)
			require.NoError(t, err)
			require.False(t, has)
			err = tab.View(k, func([]byte) error { t.Error("called for an absent key"); return nil })
			require.ErrorIs(t, err, table.ErrNotFound)
			require.Zero(t, tab.Len())
			require.Empty(t, contents(t, tab))
		}
		holds := func(want string) {
			t.Helper()
			got, err := tab.Get(k)
			require.NoError(t, err)
			require.Equal(t, want, string(got))
			require.NotNil(t, got)
			dst, err := tab.AppendGet(b("before"), k)
			require.NoError(t, err)
			require.Equal(t, "before"+want, string(dst))
			has, err := tab.Has(k)
			require.NoError(t, err)
			require.True(t, has)
			calls := 0
			require.NoError(t, tab.View(k, func(v []byte) error {
				calls++
				require.Equal(t, want, string(v))
				return nil
			}))
			require.Equal(t, 1, calls)
			require.Equal(t, 1, tab.Len())
			require.Equal(t, map[string]string{"key": want}, contents(t, tab))
		}
		yes := func(done bool, err error) { t.Helper(); require.NoError(t, err); require.True(t, done) }
		no := func(done bool, err error) { t.Helper(); require.NoError(t, err); require.False(t, done) }

		absent()
		require.NoError(t, tab.Delete(k))
		no(tab.CompareAndSwap(k, nil, b("x")))
		no(tab.CompareAndSwap(k, b("x"), b("x")))
		no(tab.CompareAndDelete(k, nil))
		old, existed, err := tab.GetAndDelete(k)
		no(existed, err)
		require.Nil(t, old)
		absent()

		require.NoError(t, tab.Put(k, b("one")))
		holds("one")
		require.NoError(t, tab.Put(k, b("two")))
		holds("two")
		no(tab.PutIfAbsent(k, b("three")))
		no(tab.CompareAndSwap(k, b("one"), b("three")))
		no(tab.CompareAndSwap(k, nil, b("three")))
		no(tab.CompareAndDelete(k, b("one")))
		no(tab.CompareAndDelete(k, b("two ")))
		holds("two")
		yes(tab.CompareAndSwap(k, b("two"), b("a longer one than before")))
		holds("a longer one than before")
		old, existed, err = tab.Swap(k, b("four"))
		yes(existed, err)
		require.Equal(t, "a longer one than before", string(old))
		holds("four")
		old, existed, err = tab.GetAndDelete(k)
		yes(existed, err)
		require.Equal(t, "four", string(old))
		absent()
		old, existed, err = tab.Swap(k, b("five"))
		no(existed, err)
		require.Nil(t, old)
		holds("five")
		yes(tab.CompareAndDelete(k, b("five")))
		absent()
		yes(tab.PutIfAbsent(k, b("six")))
		holds("six")
		require.NoError(t, tab.Sync())
		holds("six")
		require.NoError(t, tab.Delete(k))
		absent()

		require.NoError(t, tab.Put(k, b("seven")))
		require.NoError(t, tab.Put(b("another"), b("value")))
		require.NoError(t, tab.Clear())
		absent()
		require.NoError(t, tab.Clear())
		require.NoError(t, tab.Put(k, b("eight")))
		holds("eight")
		checked(t, tab)
	})
}

func TestEmptyAndNilAreTheSame(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		require.NoError(t, tab.Put(nil, nil))
		got, err := tab.Get([]byte{})
		require.NoError(t, err)
		require.Equal(t, []byte{}, got)
		stored, err := tab.PutIfAbsent([]byte{}, b("x"))
		require.NoError(t, err)
		require.False(t, stored)
		for _, empty := range [][]byte{nil, {}} {
			swapped, err := tab.CompareAndSwap(empty, empty, empty)
			require.NoError(t, err)
			require.True(t, swapped)
		}
		old, existed, err := tab.Swap(nil, nil)
		require.NoError(t, err)
		require.True(t, existed)
		require.Equal(t, []byte{}, old, "an empty value is not nil: nil is none")
		require.NoError(t, tab.Update(nil, func(old []byte, exists bool) ([]byte, table.Op) {
			require.True(t, exists)
			require.Empty(t, old)
			return nil, table.Store
		}))
		require.Equal(t, map[string]string{"": ""}, contents(t, tab))
		require.Equal(t, 1, tab.Len())
		old, existed, err = tab.GetAndDelete(nil)
		require.NoError(t, err)
		require.True(t, existed)
		require.Equal(t, []byte{}, old)
		_, err = tab.Get(nil)
		require.ErrorIs(t, err, table.ErrNotFound)
	})
}

// TestSizes stores every size at which something changes: the two shapes of a
// record, the size classes, a chunk, runs of chunks.
func TestSizes(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		keys := []int{0, 1, 15, 16, 17, 254, 255, 256, 257, 4000, 4096, 65_534, 65_535}
		values := []int{0, 1, 239, 240, 254, 255, 256, 257, 4064, 4080, 4096, 4097, 65_500, 65_536, 70_000, 1 << 20, 3<<20 + 1}
		if testing.Short() || race.Enabled {
			keys, values = []int{0, 255, 256, 65_535}, []int{0, 255, 256, 4096, 65_536, 200_000}
		}
		n := 0
		for _, ks := range keys {
			for _, vs := range values {
				if vs >= 65_536 && ks > 17 && ks < 65_535 {
					continue
				}
				k, v := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, (ks+1)/2)[:ks], value(n, vs)
				require.NoError(t, tab.Put(k, v), "key of %d, value of %d bytes", ks, vs)
				got, err := tab.Get(k)
				require.NoError(t, err)
				require.True(t, bytes.Equal(v, got), "key of %d, value of %d bytes", ks, vs)
				require.NoError(t, tab.View(k, func(got []byte) error {
					require.True(t, bytes.Equal(v, got))
					return nil
				}))
				if vs >= 65_536 { // so that the small media need not hold all of them
					old, existed, err := tab.GetAndDelete(k)
					require.NoError(t, err)
					require.True(t, existed)
					require.True(t, bytes.Equal(v, old))
				}
				n++
			}
		}
		checked(t, tab)
	})
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	tab := onHeap(t, pmem.Tmpfs, 1, 1<<20)
	longKey := make([]byte, 65_536)
	long := make([]byte, 1<<30+1) // only its length is looked at
	require.NoError(t, tab.Put(b("key"), b("value")))
	op := func(table.Op) func([]byte, bool) ([]byte, table.Op) {
		return func([]byte, bool) ([]byte, table.Op) { return long, table.Store }
	}
	for name, err := range map[string]error{
		"Put key":               tab.Put(longKey, nil),
		"Put value":             tab.Put(b("key"), long),
		"PutIfAbsent key":       second(tab.PutIfAbsent(longKey, nil)),
		"PutIfAbsent value":     second(tab.PutIfAbsent(b("key"), long)),
		"CompareAndSwap key":    second(tab.CompareAndSwap(longKey, nil, nil)),
		"CompareAndSwap value":  second(tab.CompareAndSwap(b("key"), b("value"), long)),
		"Swap key":              third(tab.Swap(longKey, nil)),
		"Swap value":            third(tab.Swap(b("key"), long)),
		"Update key":            tab.Update(longKey, op(table.Store)),
		"Update value":          tab.Update(b("key"), op(table.Store)),
		"Update absent's value": tab.Update(b("other"), op(table.Store)),
		"Get":                   second(tab.Get(longKey)),
		"AppendGet":             second(tab.AppendGet(nil, longKey)),
		"Has":                   second(tab.Has(longKey)),
		"View":                  tab.View(longKey, func([]byte) error { return nil }),
		"Delete":                tab.Delete(longKey),
		"CompareAndDelete":      second(tab.CompareAndDelete(longKey, nil)),
		"GetAndDelete":          third(tab.GetAndDelete(longKey)),
	} {
		assert.ErrorIs(t, err, table.ErrTooLarge, name)
	}
	// An expectation that no value can meet is no error.
	swapped, err := tab.CompareAndSwap(b("key"), long, nil)
	require.NoError(t, err)
	require.False(t, swapped)
	require.Equal(t, map[string]string{"key": "value"}, contents(t, tab))
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

// TestNobodysSlices: arguments may be reused as soon as a call returns, and what
// a call returns may be written to.
func TestNobodysSlices(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		k, v := b("the key"), b("the value")
		spoil := func(slices ...[]byte) {
			for _, s := range slices {
				for i := range s {
					s[i] ^= 0xff
				}
				s = s[:cap(s)]
				for i := range s {
					s[i] = '!'
				}
			}
		}
		holds := func(want string) {
			t.Helper()
			got, err := tab.Get(b("the key"))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
		require.NoError(t, tab.Put(k, v))
		spoil(k, v)
		holds("the value")

		got, err := tab.Get(b("the key"))
		require.NoError(t, err)
		spoil(got)
		holds("the value")

		dst := make([]byte, 3, 64)
		out, err := tab.AppendGet(dst, b("the key"))
		require.NoError(t, err)
		require.Same(t, &dst[0], &out[0], "there was room in dst")
		spoil(out)
		holds("the value")

		k, old, v := b("the key"), b("the value"), b("another")
		swapped, err := tab.CompareAndSwap(k, old, v)
		require.NoError(t, err)
		require.True(t, swapped)
		spoil(k, old, v)
		holds("another")

		previous, _, err := tab.Swap(b("the key"), b("third"))
		require.NoError(t, err)
		spoil(previous)
		holds("third")

		var kept []byte
		require.NoError(t, tab.Update(b("the key"), func(old []byte, _ bool) ([]byte, table.Op) {
			spoil(old)
			kept = b("fourth")
			return kept, table.Store
		}))
		spoil(kept)
		holds("fourth")
		require.NoError(t, tab.Update(b("the key"), func(old []byte, _ bool) ([]byte, table.Op) {
			return append(old, " and more"...), table.Store // in the copy that it got
		}))
		holds("fourth and more")

		for k, v := range tab.All() {
			spoil(k, v)
		}
		_, err = tab.Scan(0, func(k, v []byte) error { spoil(k, v); return nil })
		require.NoError(t, err)
		holds("fourth and more")

		last, existed, err := tab.GetAndDelete(b("the key"))
		require.NoError(t, err)
		require.True(t, existed)
		require.NoError(t, tab.Put(b("the key"), b("fifth")))
		require.Equal(t, "fourth and more", string(last))
		spoil(last)
		holds("fifth")
	})
}

func TestUpdate(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		k := b("key")
		update := func(wantExists bool, wantOld string, value string, op table.Op) {
			t.Helper()
			calls := 0
			require.NoError(t, tab.Update(k, func(old []byte, exists bool) ([]byte, table.Op) {
				calls++
				require.Equal(t, wantExists, exists)
				require.Equal(t, wantOld, string(old))
				return b(value), op
			}))
			require.Equal(t, 1, calls)
		}
		update(false, "", "ignored", table.Keep)
		update(false, "", "ignored", table.Remove)
		require.Zero(t, tab.Len())
		update(false, "", "one", table.Store)
		update(true, "one", "ignored", table.Keep)
		update(true, "one", "two", table.Store)
		update(true, "two", "ignored", table.Remove)
		require.Zero(t, tab.Len())
		require.Error(t, tab.Update(k, func([]byte, bool) ([]byte, table.Op) { return nil, 7 }))
		require.Zero(t, tab.Len())
	})
}

// TestUpdateRunsAgain: another writer between fn's look and its store makes fn
// run again, with what that one stored; whatever fn wanted to do.
func TestUpdateRunsAgain(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		for _, before := range []string{"", "before"} { // "": absent
			for _, meanwhile := range []string{"", "meanwhile"} {
				for _, op := range []table.Op{table.Keep, table.Store, table.Remove} {
					k := b("key")
					require.NoError(t, tab.Delete(k))
					if before != "" {
						require.NoError(t, tab.Put(k, b(before)))
					}
					var seen []string
					require.NoError(t, tab.Update(k, func(old []byte, exists bool) ([]byte, table.Op) {
						require.Equal(t, exists, len(old) > 0)
						if seen = append(seen, string(old)); len(seen) == 1 {
							if meanwhile == "" {
								require.NoError(t, tab.Delete(k))
							} else {
								require.NoError(t, tab.Put(k, b(meanwhile)))
							}
						}
						return append(old, '+'), op
					}))
					want := []string{before, meanwhile}
					if before == meanwhile {
						want = want[:1]
					}
					require.Equal(t, want, seen)
					got, err := tab.Get(k)
					switch {
					case op == table.Store:
						require.NoError(t, err)
						require.Equal(t, meanwhile+"+", string(got))
					case op == table.Remove || meanwhile == "":
						require.ErrorIs(t, err, table.ErrNotFound)
					default:
						require.NoError(t, err)
						require.Equal(t, meanwhile, string(got))
					}
				}
			}
		}
	})
}

// TestUpdateSeesSameValueAgain: between fn's look and its store the value went
// away and came back. That is no change to fn.
func TestUpdateSeesSameValueAgain(t *testing.T) {
	tab := onHeap(t, pmem.Tmpfs, 1, 1<<20)
	require.NoError(t, tab.Put(b("key"), b("same")))
	calls := 0
	require.NoError(t, tab.Update(b("key"), func(old []byte, _ bool) ([]byte, table.Op) {
		calls++
		require.NoError(t, tab.Put(b("key"), b("other")))
		require.NoError(t, tab.Put(b("key"), b("same")))
		return b("new"), table.Store
	}))
	require.Equal(t, 1, calls)
}

func TestIteration(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		n := 1000
		if testing.Short() {
			n = 100
		}
		if tab.Stats().Durability == "always" && !strings.Contains(tab.Stats().Path, "heap") {
			n = 20 // each waits for the disk
		}
		want := make(map[string]string)
		for i := range n {
			k, v := string(key(i)), string(value(i, i%700))
			require.NoError(t, tab.Put(b(k), b(v)))
			want[k] = v
		}
		require.Equal(t, want, contents(t, tab))

		for range tab.All() { // ends early
			break
		}
		require.NoError(t, tab.Err())

		// Step by step; fn's error ends the step, which can be repeated.
		stop := errors.New("stop")
		got, steps := make(map[string]string), 0
		for cursor := uint64(0); ; steps++ {
			calls := 0
			next, err := tab.Scan(cursor, func(k, _ []byte) error { calls++; return stop })
			if calls > 0 {
				require.Equal(t, stop, err)
				require.Equal(t, cursor, next)
				require.Equal(t, 1, calls)
			}
			next, err = tab.Scan(cursor, func(k, v []byte) error {
				require.NotContains(t, got, string(k))
				got[string(k)] = string(v)
				_, err := tab.Get(k) // fn may call the table
				return err
			})
			require.NoError(t, err)
			if next == 0 {
				break
			}
			require.Greater(t, next, cursor)
			cursor = next
		}
		require.Equal(t, want, got)

		// A cursor from nowhere is a hash like any other.
		for _, cursor := range []uint64{1, 1 << 63, ^uint64(0), 0x9e3779b97f4a7c15} {
			_, err := tab.Scan(cursor, func(k, v []byte) error {
				require.Equal(t, want[string(k)], string(v))
				return nil
			})
			require.NoError(t, err)
		}

		// Removing what it comes by, All still sees everything once.
		for k := range tab.All() {
			require.Contains(t, got, string(k))
			delete(got, string(k))
			require.NoError(t, tab.Delete(k))
		}
		require.NoError(t, tab.Err())
		require.Empty(t, got)
		require.Zero(t, tab.Len())
	})
}

// TestIterationWhileSplitting: keys that are there throughout are seen exactly
// once, whatever splits, grows and goes meanwhile.
func TestIterationWhileSplitting(t *testing.T) {
	for _, stripes := range []int{1, 4} {
		tab := onHeap(t, pmem.Tmpfs, stripes, 16<<20)
		const stay = 300
		for i := range stay {
			require.NoError(t, tab.Put(key(i), b("stays")))
		}
		seen, next := make(map[string]int), stay
		for k, v := range tab.All() {
			if string(v) != "stays" {
				continue
			}
			seen[string(k)]++
			for range 20 {
				require.NoError(t, tab.Put(key(next), b("new")))
				next++
			}
			require.NoError(t, tab.Delete(key(next-10)))
		}
		require.NoError(t, tab.Err())
		require.Len(t, seen, stay)
		for _, times := range seen {
			require.Equal(t, 1, times)
		}
		require.Positive(t, tab.Stats().Splits)
	}
}

// TestLargeValuesScanInSteps: a step copies a bounded amount, not a whole
// segment of large values.
func TestLargeValuesScanInSteps(t *testing.T) {
	tab := onHeap(t, pmem.Tmpfs, 1, 16<<20)
	const n = 12
	for i := range n {
		require.NoError(t, tab.Put(key(i), value(i, 150_000)))
	}
	steps, seen := 0, 0
	for cursor := uint64(0); ; {
		inStep := 0
		next, err := tab.Scan(cursor, func(k, v []byte) error { inStep++; return nil })
		require.NoError(t, err)
		require.LessOrEqual(t, inStep, 3)
		steps, seen = steps+1, seen+inStep
		if cursor = next; next == 0 {
			break
		}
	}
	require.Equal(t, n, seen)
	require.GreaterOrEqual(t, steps, 4)
}
