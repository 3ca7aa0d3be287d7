package table_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: any difference between the table and a Go map,
// after any sequence of operations, deaths and reopenings; an entry that power
// loss leaves although it was never committed, or takes although it was; damage
// that Check finds. rapid prints the seed of a failure and how to repeat it.

// How often a sequence has each kind of operation.
var opWeights = map[opKind]int{
	opPut: 12, opDelete: 4, opPutIfAbsent: 3, opCompareAndSwap: 3, opCompareAndDelete: 2, opSwap: 3, opGetAndDelete: 2,
	opUpdate: 3, opRead: 4, opView: 1, opIterate: 1, opClear: 1, opSync: 2, opCheck: 1, opReadOnly: 1,
	opReopen: 1, opKill: 1, opReboot: 1, opMove: 1, opRestore: 2,
}

func drawOps(maxOps int) *rapid.Generator[[]op] {
	var kinds []opKind
	for k := range opKinds {
		for range opWeights[k] {
			kinds = append(kinds, k)
		}
	}
	kind := rapid.SampledFrom(kinds)
	size := rapid.OneOf(
		rapid.Uint16Range(0, 64),
		rapid.Uint16Range(0, 300),
		rapid.Uint16Range(3900, 9000), // around a chunk and into runs
	)
	one := rapid.Custom(func(t *rapid.T) op {
		return op{kind.Draw(t, "kind"), rapid.Uint16Range(0, 400).Draw(t, "key"), size.Draw(t, "size"), rapid.Uint8Range(0, 5).Draw(t, "how")}
	})
	return rapid.SliceOfN(one, maxOps/4, maxOps)
}

func TestModel(t *testing.T) {
	t.Parallel()
	type setup struct {
		name       string
		media      pmem.Media
		durability table.Durability
		geometry   func(t *rapid.T) pmem.Geometry
		maxBytes   int
		keys       int
	}
	small := func(t *rapid.T) pmem.Geometry { return tiny(1 << rapid.IntRange(0, 2).Draw(t, "stripe bits")) }
	usual := func(*rapid.T) pmem.Geometry { return pmem.Geometry{Stripes: 4} }
	inline := func(*rapid.T) pmem.Geometry { return tinyInline() }
	var setups []setup
	for _, media := range append(mediaHere(), pmem.Auto) {
		setups = append(setups,
			setup{"tiny", media, table.OnSync, small, 4 << 20, 300},
			setup{"tiny and full", media, table.OnSync, small, 192 << 10, 60},
			setup{"default", media, table.OnSync, usual, 4 << 20, 200},
			setup{"inline", media, table.OnSync, inline, 4 << 20, 1000},
			setup{"inline and full", media, table.OnSync, inline, 112 << 10, 3000})
	}
	setups = append(setups,
		setup{"tiny, always", pmem.Auto, table.Always, small, 4 << 20, 100},
		setup{"inline, always", pmem.Auto, table.Always, inline, 4 << 20, 1000},
		setup{"tiny and full, always", pmem.Auto, table.Always, small, 192 << 10, 60})
	for _, s := range setups {
		t.Run(fmt.Sprint(s.name, " on ", s.media), func(t *testing.T) {
			t.Parallel()
			var deaths, reboots, fulls, unasked int
			rapid.Check(t, func(rt *rapid.T) {
				po := pmem.Options{Geometry: s.geometry(rt), Media: s.media}
				ops := drawOps(400).Draw(rt, "operations")
				w := newWorld(rt, po, table.Options{Durability: s.durability}, s.maxBytes, s.keys)
				for _, o := range ops {
					w.do(o)
				}
				w.look(opIterate, nil)
				w.look(opCheck, nil)
				w.close()
				deaths, reboots, fulls, unasked = deaths+w.deaths, reboots+w.reboots, fulls+w.fulls, unasked+w.commitsUnasked
			})
			t.Logf("%d deaths, %d falls back to a committed root (%d to one that nobody asked for), %d times full",
				deaths, reboots, unasked, fulls)
			require.Positive(t, deaths)
		})
	}
}
