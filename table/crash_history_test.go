package table_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// Histories of several clients at once, crashed, and checked for durable
// linearizability: there is an order of the calls, in which a call that was under way
// at the crash may be left out, that explains every result and what is found after
// recovery. On a page cache, where a reader may see what a crash takes back, the
// reads before the crash are left out.

// crashPending is the result of a call that a crash cut off.
const crashPending = "pending"

// crashKeyModel is keyModel with calls that may have happened.
var crashKeyModel = (&porcupine.NondeterministicModel{
	Partition: keyModel.Partition,
	Init:      func() []any { return []any{none} },
	Step: func(state, input, output any) []any {
		c, r := input.(call), output.(result)
		if r.value == crashPending && r.n < 0 {
			switch {
			case c.kind == "Put", c.kind == "CompareAndSwap" && state == c.old:
				return []any{state, c.value}
			case c.kind == "Delete":
				return []any{state, none}
			}
			return []any{state}
		}
		if ok, next := stepKey(state.(string), c, r); ok {
			return []any{next}
		}
		return nil
	},
	Equal: func(a, b any) bool { return a == b },
}).ToModel()

// crashHistory is the calls of several clients, numbered as the tracer knows them.
type crashHistory struct {
	setup   crashSetup
	keys    [][]byte
	calls   []call
	results []result
	trace   *crashtest.Trace
}

// crashTwoStripes are keys of both stripes of a table of two.
var crashTwoStripes = sync.OnceValue(func() [][]byte {
	keys := crashKeys(2, 3, "")
	for i := 0; len(keys) < linearKeys; i++ {
		key := fmt.Appendf(nil, "k%07d", i)
		if layout.StripeOf(xxh3.HashSeed(key, crashSeed), 1) == 1 {
			keys = append(keys, key)
		}
	}
	return keys
})

// twoStripes is crashTwoStripes for the setup's form of entries.
func (s crashSetup) twoStripes() [][]byte {
	if s.inline {
		return slices.Concat(crashInlineKeys(0, linearKeys-1, 0, "0"), crashInlineKeys(1, 1, 0, "0"))
	}
	return crashTwoStripes()
}

// crashRunHistory lets the clients call, each with a generator of its own.
func crashRunHistory(s crashSetup, seed uint64, clients, callsEach int) (*crashHistory, error) {
	h := &crashHistory{
		setup: s, keys: s.twoStripes(),
		calls: make([]call, clients*callsEach), results: make([]result, clients*callsEach),
	}
	tracer := crashtest.NewTracer(crashEmptyImage(s, 2))
	c := crashTable{setup: s, heap: pmem.NewHeap(tracer.Image(), s.maxBytes()), hook: tracer}
	if err := c.open(); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for client := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(client)))
			for i := range callsEach {
				op := client*callsEach + i
				h.calls[op] = crashDrawCall(rng, op)
				tracer.Begin(op)
				r, err := h.perform(c.tab, h.calls[op])
				tracer.Ack(op)
				h.results[op] = r
				errs[client] = errors.Join(errs[client], err)
			}
		})
	}
	wg.Wait()
	c.tab.Die()
	h.trace = tracer.Trace()
	return h, errors.Join(errs...)
}

// crashDrawCall draws a call; op makes its value unlike any other.
func crashDrawCall(rng *rand.Rand, op int) call {
	c := call{key: rng.IntN(linearKeys), value: fmt.Sprintf("h%07d", op)}
	c.kind = []string{"Put", "Put", "Put", "Delete", "CompareAndSwap", "Get", "Get"}[rng.IntN(7)]
	if c.kind == "CompareAndSwap" && op > 0 {
		c.old = fmt.Sprintf("h%07d", rng.IntN(op))
	}
	return c
}

func (h *crashHistory) perform(tab *table.Table, c call) (r result, err error) {
	key := h.keys[c.key]
	switch c.kind {
	case "Put":
		err = tab.Put(key, []byte(c.value))
	case "Delete":
		err = tab.Delete(key)
	case "CompareAndSwap":
		r.yes, err = tab.CompareAndSwap(key, []byte(c.old), []byte(c.value))
	case "Get":
		var v []byte
		if v, err = tab.Get(key); errors.Is(err, table.ErrNotFound) {
			return result{value: none}, nil
		}
		r.value = string(v)
	}
	return r, err
}

// Judge opens what a crash left, reads every key, and looks for an order. The events
// of the log are the clock.
func (h *crashHistory) Judge(crash *crashtest.Crash, bench *crashBench) error {
	c := crashTable{setup: h.setup, heap: bench.load(crash.Image), hook: crashOracleHook()}
	if err := c.open(); err != nil {
		return err
	}
	defer c.tab.Die()
	reads := bench.slotReads(c.tab, crash.Image)
	if c.tab.LoggedSlot() == nil {
		if _, err := c.tab.Reached(func(off uint64) error { reads.addBlock(c.tab.Pool(), off); return nil }); err != nil {
			return err
		}
	}
	crash.Read = bench.read(reads)
	var history []porcupine.Operation
	for _, op := range slices.Concat(crash.Acked, crash.Pending) {
		if h.setup.model == crashtest.PageCache && h.calls[op].kind == "Get" {
			continue
		}
		o := porcupine.Operation{
			Input: h.calls[op], Output: h.results[op],
			Call: int64(h.trace.Find(0, crashtest.Begin, op)), Return: int64(h.trace.Find(0, crashtest.Ack, op)),
		}
		if slices.Contains(crash.Pending, op) {
			o.Output, o.Return = result{value: crashPending, n: -1}, int64(crash.Event)
		}
		history = append(history, o)
	}
	for i := range h.keys {
		get := call{kind: "Get", key: i}
		r, err := h.perform(c.tab, get)
		if err != nil {
			return err
		}
		after := int64(len(h.trace.Events) + 1)
		history = append(history, porcupine.Operation{Input: get, Output: r, Call: after, Return: after + 1})
	}
	if _, err := c.tab.Check(); err != nil {
		return err
	}
	if result := porcupine.CheckOperationsTimeout(crashKeyModel, history, time.Minute); result != porcupine.Ok {
		return fmt.Errorf("no order of the calls explains what was found: %v", history)
	}
	return nil
}

func (h *crashHistory) crash(trace *crashtest.Trace, bound crashtest.Bound, bench *crashBench) (crashtest.Figures, error) {
	suite := crashtest.Suite{
		Model: h.setup.model, Bound: bound,
		Oracle: crashtest.OracleFunc(func(c *crashtest.Crash) error { return h.Judge(c, bench) }),
	}
	return suite.Crash(trace.From(trace.Find(0, crashtest.Begin, 0)))
}

// crashHistories is how many histories each medium gets.
func crashHistories() int {
	switch {
	case crashLong:
		return 1500 // of seven media: 10,500
	case crashSmall():
		return 1
	}
	return 20
}

// crashBaseSeed is fresh in every run, and printed.
func crashBaseSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return seed
}

func TestCrashedHistoriesHaveAnOrder(t *testing.T) {
	for _, s := range []crashSetup{crashX86, crashARM, crashCache, crashLog, crashInline, crashInlineARM, crashInlineLog} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			began, seed := time.Now(), crashBaseSeed(t)
			bench := &crashBench{setup: s}
			var figures crashtest.Figures
			for i := range crashHistories() {
				clients, calls := 2+i%7, 24
				if crashSmall() {
					clients, calls = 3, 9
				}
				h, err := crashRunHistory(s, seed+uint64(i), clients, calls/clients)
				require.NoError(t, err)
				bound := crashtest.Bound{Images: 4, Pairs: -1, Samples: 2, Seed: seed}
				f, err := h.crash(h.trace, bound, bench)
				require.NoError(t, err, "history %d of seed %d", i, seed)
				figures.Add(f)
			}
			addCrashFigures(figures, time.Since(began))
			t.Log(figures)
		})
	}
}

// TestCrashedHistoriesNeedDrains: the check finds histories without drains out.
func TestCrashedHistoriesNeedDrains(t *testing.T) {
	seed := crashBaseSeed(t)
	for _, s := range []crashSetup{crashX86, crashInline} {
		crashWithoutDrains(t, s, seed)
	}
}

func crashWithoutDrains(t *testing.T, s crashSetup, seed uint64) {
	h, err := crashRunHistory(s, seed, 3, 6)
	require.NoError(t, err)
	without := *h.trace
	without.Events = slices.Clone(h.trace.Events)
	for i := without.Find(0, crashtest.Begin, 0); i < len(without.Events); i++ {
		if e := &without.Events[i]; e.Kind == crashtest.Drain {
			*e = crashtest.Event{Kind: crashtest.WriteBack, Goroutine: e.Goroutine}
		}
	}
	_, err = h.crash(&without, crashtest.Bound{Images: 4, Pairs: -1, Samples: 2}, &crashBench{})
	var violation *crashtest.Violation
	require.ErrorAs(t, err, &violation)
}

// TestLongProgramsSurviveCrashes crashes random programs on a table of two stripes,
// everywhere, and shrinks one that fails. rapid prints its seed.
func TestLongProgramsSurviveCrashes(t *testing.T) {
	began, programs, failed := time.Now(), 0, false
	most := 40
	switch {
	case crashLong:
		most = 1 << 30 // as many as -rapid.checks says
	case crashSmall():
		most = 1
	}
	var figures crashtest.Figures
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(slices.Concat(crashSetups, crashInlineSetups)).Draw(t, "medium")
		keys := s.twoStripes()
		k := crashWorld{a: keys[0], b: keys[linearKeys-1], inline: s.inline}
		n := rapid.IntRange(4, 16).Draw(t, "operations")
		var ops []crashOp
		for i := range n {
			o := rapid.SampledFrom(crashAlphabet(k, i)).Draw(t, "operation")
			if o.key != nil && o.kind != crashBatch && o.kind != crashMany {
				o.key = rapid.SampledFrom(keys).Draw(t, "key")
			}
			ops = append(ops, o)
		}
		if programs++; programs > most && !failed {
			return
		}
		p := crashProgram{setup: s, start: crashContent{}, ops: ops}
		image := crashEmptyImage(s, 2)
		oracle := newCrashOracle(p, s.keysAt(2, 30, 0, "1"), &crashBench{setup: s})
		oracle.useEvery = 8
		suite := crashtest.Suite{
			Image: image, Oracle: oracle, Workload: p, Model: s.model,
			Bound: crashtest.Bound{Images: 6, Pairs: -1, Samples: 3},
		}
		f, err := suite.Run()
		figures.Add(f)
		if err != nil {
			failed = true
			t.Fatalf("%v: %v", p, err)
		}
	})
	addCrashFigures(figures, time.Since(began))
	t.Log(figures)
}
