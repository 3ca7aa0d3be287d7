package table_test

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/internal/race"
	"pmemtable/recovery/crashtest"
)

// The sizes of the suite, by how many operations the programs have of which all are
// run. PMEMTABLE_CRASH=1: two from every start, three from the dirty one on two media,
// in some minutes; full: three everywhere, in an hour or more; long: that with far more
// images of each crash, and four, for nights, and 10,500 crashed histories, which make
// crash-long runs without the rest. Unset, go test's: one, and two
// from the dirty start on two media.
var (
	crashMore = os.Getenv("PMEMTABLE_CRASH") != ""
	crashLong = os.Getenv("PMEMTABLE_CRASH") == "long"
	crashFull = os.Getenv("PMEMTABLE_CRASH") == "full"
)

// crashSmall is the size for slow places: -short, and the race detector.
func crashSmall() bool { return !crashLong && !crashFull && (testing.Short() || race.Enabled) }

// crashTiny is the size for the race detector and for emulated processors: nearly all
// of this is done by one goroutine, over and over.
func crashTiny() bool { return slow() && crashSmall() }

// crashSites: PMEMTABLE_CRASH_SITES=1 has failures name the functions whose stores
// were lost, which takes time to find out for every store.
var crashSites = os.Getenv("PMEMTABLE_CRASH_SITES") != ""

// crashBound is how many images a crash point of a program of some operations gets.
func crashBound(ops int) crashtest.Bound {
	switch {
	case crashLong && ops < 4:
		return crashtest.Bound{Images: 20000, Pairs: 5000, Samples: 500}
	case crashTiny():
		return crashtest.Bound{Images: 6, Pairs: -1, Samples: 3}
	case crashSmall():
		return crashtest.Bound{Images: 16, Pairs: 8, Samples: 8}
	}
	return crashtest.Bound{Images: 128, Pairs: 50, Samples: 20}
}

// crashOpenEvery: which of the images of a crash is opened is nothing that the race
// detector or an emulator could tell apart.
func crashOpenEvery() uint64 {
	if crashTiny() {
		return 8
	}
	return 1
}

// crashTinyOr is a bound for other places than those of crashTiny.
func crashTinyOr(b crashtest.Bound) crashtest.Bound {
	if crashTiny() {
		return crashBound(1)
	}
	return b
}

// total sums the figures of all tests of the suite.
var crashTotal struct {
	sync.Mutex
	crashtest.Figures
	busy time.Duration
	// again counts images that were judged good before, and so only compared.
	again atomic.Int64
}

func addCrashFigures(f crashtest.Figures, busy time.Duration) {
	crashTotal.Lock()
	defer crashTotal.Unlock()
	crashTotal.Figures.Add(f)
	crashTotal.busy += busy
}

// TestOpenAlone opens images without the rest of the oracle. make crash measures it.
func TestOpenAlone(t *testing.T) {
	rounds, bound := 200, crashtest.Bound{Images: 500, Pairs: 100}
	if !crashMore {
		rounds, bound = 1, crashBound(1)
	}
	k, s := theCrashWorld(), crashX86
	ops := crashStarts[1].ops(k)
	p := crashProgram{setup: s, start: crashAfter(ops), ops: crashRecoveryPrograms(k)[3]}
	tracer := crashtest.NewTracer(crashImageAfter(s, crashEmptyImage(s, 1), ops))
	_, err := p.Run(tracer)
	require.NoError(t, err)
	bench, images := &crashBench{}, 0
	run := func(visit func(*crashtest.Crash) error) time.Duration {
		began := processorTime()
		for range rounds {
			figures, err := tracer.Trace().Crashes(s.model, bound, nil, visit)
			require.NoError(t, err)
			images += figures.Images
		}
		return processorTime() - began
	}
	busy := run(func(c *crashtest.Crash) error {
		table := crashTable{setup: s, heap: bench.load(c.Image), hook: crashOracleHook()}
		err := table.open()
		if err == nil {
			table.tab.Die()
		}
		return err
	})
	opened := images
	// Less what it takes to make the images.
	busy -= run(func(c *crashtest.Crash) error { bench.load(c.Image); return nil })
	require.Positive(t, opened)
	if crashMore {
		fmt.Printf("crash suite: %.0f images per second of processor time for open and recovery alone\n", float64(opened)/busy.Seconds())
	}
}

// TestMain prints the figures of the crash suite when PMEMTABLE_CRASH asks for them.
func TestMain(m *testing.M) {
	if os.Getenv("PMEMTABLE_CRASH") != "" || os.Getenv("PMEMTABLE_MUTANTS") != "" {
		// Each image leaves a table behind, and little lives long. On a busy machine the
		// collector may fall behind, hence the limit.
		debug.SetGCPercent(800)
		debug.SetMemoryLimit(512 << 20)
	}
	code := m.Run()
	if os.Getenv("PMEMTABLE_CRASH") != "" && crashTotal.Images > 0 {
		fmt.Printf("crash suite: %v\n", crashTotal.Figures)
		fmt.Printf("crash suite: %d of the images had been opened and used before, with other operations acknowledged or by another program\n", crashTotal.again.Load())
		used := processorTime()
		fmt.Printf("crash suite: %.0f images per second of processor time with the whole oracle (%v of the whole run; %.0f by the clock of the tests, which waited for a processor too)\n",
			float64(crashTotal.Images)/used.Seconds(), used.Round(time.Millisecond), float64(crashTotal.Images)/crashTotal.busy.Seconds())
	}
	os.Exit(code)
}

// crashStart is a file to begin with. Its keys share one home line.
type crashStart struct {
	name string
	ops  func(k crashWorld) []crashOp
}

// crashWorld are the keys of a test.
type crashWorld struct {
	a, b  []byte   // of the programs; their hashes begin with 00 after the stripe
	same  [][]byte // more that begin so
	other [][]byte // that begin with 1
	extra [][]byte // for use after recovery
	far   []byte   // of another home line

	inline       bool
	line, window int // entries that have room in the home line, and in a window
	more         int // after which "doubling" has a full window again
}

// world is that of the setup's form of entries.
func (s crashSetup) world() crashWorld {
	if s.inline {
		return theInlineWorld()
	}
	return theCrashWorld()
}

var theInlineWorld = sync.OnceValue(func() crashWorld {
	low := crashInlineKeys(0, 50, 0, "00")
	return crashWorld{a: low[0], b: low[1], same: low[2:], other: crashInlineKeys(0, 40, 0, "1"), extra: crashInlineKeys(0, 40, 0, "01"),
		far: crashInlineKeys(0, 1, 4, "00")[0], inline: true, line: 4, window: 28, more: 2}
})

var theCrashWorld = sync.OnceValue(func() crashWorld {
	low := crashKeys(1, 50, "00")
	return crashWorld{a: low[0], b: low[1], same: low[2:], other: crashKeys(1, 40, "1"), extra: crashKeys(1, 40, "01"), far: crashKeysAt(1, 1, 2, "00")[0],
		line: 8, window: 32, more: 3}
})

func crashPuts(keys ...[]byte) (ops []crashOp) {
	for i, k := range keys {
		ops = append(ops, crashOp{kind: crashPut, key: k, value: fmt.Appendf(nil, "s%07d", i)})
	}
	return ops
}

func crashDeletes(keys ...[]byte) (ops []crashOp) {
	for _, k := range keys {
		ops = append(ops, crashOp{kind: crashDelete, key: k})
	}
	return ops
}

var crashStarts = []crashStart{
	{"empty", func(crashWorld) []crashOp { return nil }},
	// Free blocks hold old records of the programs' keys, with valid checksums.
	{"dirty", func(k crashWorld) []crashOp {
		return slices.Concat(crashPuts(k.a, k.b, k.a, k.b, k.same[0]), crashDeletes(k.a, k.b))
	}},
	{"holds", func(k crashWorld) []crashOp {
		return slices.Concat(crashPuts(k.a, k.b), crashDeletes(k.b), crashPuts(k.b, k.a))
	}},
	// The home line is full: the next insert sets its overflow bit.
	{"line", func(k crashWorld) []crashOp { return crashPuts(k.same[:k.line]...) }},
	// The window is full: the next insert splits.
	{"window", func(k crashWorld) []crashOp {
		return slices.Concat(crashPuts(k.a), crashDeletes(k.a), crashPuts(k.same[:k.window-12]...), crashPuts(k.other[:12]...))
	}},
	// Two segments: after one of them was copied, a directory word of the other is
	// stored in place.
	{"halves", func(k crashWorld) []crashOp {
		return slices.Concat(crashPuts(k.same[:k.window-11]...), crashPuts(k.other[:12]...), crashDeletes(k.same[1:k.window-12]...))
	}},
	// The window of a segment as deep as its directory is full: the next insert
	// doubles the directory. Some of its keys begin with 01, so that the split
	// separates.
	{"doubling", func(k crashWorld) []crashOp {
		return slices.Concat(crashPuts(k.same[:k.window-12]...), crashPuts(k.extra[30:40]...), crashPuts(k.other[:2]...), crashPuts(k.same[k.window-12:][:k.more]...))
	}},
}

// crashAlphabet is every operation that programs are made of; n numbers it.
func crashAlphabet(k crashWorld, n int) []crashOp {
	v := fmt.Appendf(nil, "n%07d", n)
	ops := []crashOp{
		{kind: crashPut, key: k.a, value: v},
		{kind: crashPut, key: k.b, value: v},
		{kind: crashDelete, key: k.a},
		{kind: crashDelete, key: k.b},
		{kind: crashSwap, key: k.a, value: v},
		{kind: crashMiss, key: k.a, value: v},
		{kind: crashClear},
		{kind: crashSync},
		{kind: crashReopen},
		{kind: crashCut},
		{kind: crashBatch, key: k.b, other: k.a, value: v},
		{kind: crashMany, key: k.a, other: k.b, value: v},
		{kind: crashSnapshot, key: k.a, value: v},
		{kind: crashCompact},
	}
	if k.inline { // 0 is stored in another way
		ops = append(ops, crashOp{kind: crashPut, key: k.a, value: make([]byte, layout.InlineValueBytes)})
	}
	return ops
}

// programs are all of exactly n operations.
func crashPrograms(k crashWorld, n int) [][]crashOp {
	if n == 0 {
		return [][]crashOp{nil}
	}
	var out [][]crashOp
	for _, head := range crashPrograms(k, n-1) {
		for _, o := range crashAlphabet(k, n) {
			out = append(out, append(slices.Clone(head), o))
		}
	}
	return out
}

// runCrashProgram crashes the last operation of a program everywhere: the ones before
// are shorter programs of their own.
func runCrashProgram(s crashSetup, image []byte, start crashContent, ops []crashOp, bench *crashBench) (crashtest.Figures, error) {
	p := crashProgram{setup: s, settled: s.inline, start: start, ops: ops}
	k := s.world()
	oracle := newCrashOracle(p, k.extra[:30], bench)
	oracle.known = [][]byte{k.a, k.b} // whatever the program, for bench.found
	oracle.openEvery = crashOpenEvery()
	suite := crashtest.Suite{Image: image, Oracle: oracle, Model: s.model, Bound: crashBound(len(ops))}
	tracer := crashtest.NewTracer(image)
	tracer.Sites, tracer.Anonymous = crashSites, true
	medium, err := p.Run(tracer)
	if err != nil {
		return crashtest.Figures{}, err
	}
	trace := tracer.Trace()
	if err := trace.Audit(medium); err != nil {
		return crashtest.Figures{}, err
	}
	return suite.Crash(trace.From(trace.Find(0, crashtest.Begin, len(ops)-1)))
}

// TestEveryProgramSurvivesEveryCrash runs all programs of up to so many operations
// from every start, on every medium.
func TestEveryProgramSurvivesEveryCrash(t *testing.T) {
	for _, s := range slices.Concat(crashSetups, crashInlineSetups) {
		k := s.world()
		for _, start := range crashStarts {
			if crashSmall() && start.name != "window" && (start.name != "dirty" || crashTiny()) {
				continue // left to the larger sizes
			}
			t.Run(s.name+"/"+start.name, func(t *testing.T) {
				t.Parallel()
				ops := start.ops(k)
				image := crashImageAfter(s, crashEmptyImage(s, 1), ops)
				now := crashContent{}
				for _, o := range ops {
					now = now.after(o)
				}
				depth := 1
				switch {
				case crashLong:
					depth = 4
				case crashFull:
					depth = 3
				case crashSmall():
				default:
					if crashMore {
						depth++
					}
					if start.name == "dirty" && (s.name == "x86" || s.name == "inline-arm" || s.name == "cache" || s.name == "cache-log") {
						depth++
					}
				}
				bench := &crashBench{setup: s, found: map[uint64]crashFound{}}
				began := time.Now()
				var figures crashtest.Figures
				for n := 1; n <= depth; n++ {
					for i, ops := range crashPrograms(k, n) {
						if crashTiny() && i%3 != 0 {
							continue
						}
						f, err := runCrashProgram(s, image, now, ops, bench)
						require.NoError(t, err, "%v", crashProgram{ops: ops})
						figures.Add(f)
					}
				}
				addCrashFigures(figures, time.Since(began))
				t.Log(figures)
			})
		}
	}
}
