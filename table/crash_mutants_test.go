package table_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/recovery/crashtest"
)

// The mutation gate: each write-back, drain and sync of a small workload is left
// out or done wrongly in turn, and some image must show it. PMEMTABLE_MUTANTS=1
// runs it (make mutants).

// mutantPrograms meet every call site of Persist and Sync.
func mutantPrograms(k crashWorld) map[string][]crashOp {
	v := func(n int) []byte { return fmt.Appendf(nil, "m%07d", n) }
	put := func(key []byte, n int) crashOp { return crashOp{kind: crashPut, key: key, value: v(n)} }
	aside := func(o crashOp) crashOp { o.aside = true; return o }
	there := []crashOp{put(k.a, 0), put(k.other[0], 1), {kind: crashCut}}
	back := []crashOp{put(k.other[0], 2), put(k.a, 3), {kind: crashCut}}
	return map[string][]crashOp{
		"empty": {put(k.a, 0), put(k.b, 1), put(k.a, 2), {kind: crashDelete, key: k.b},
			{kind: crashMany, key: k.b, other: k.far, value: bytes.Repeat(v(3), 8)}},
		"dirty": {
			put(k.a, 0), {kind: crashCut}, put(k.b, 1), {kind: crashBatch, key: k.b, other: k.a, value: v(2)},
			{kind: crashClear, waits: true}, put(k.a, 3), {kind: crashSync}, {kind: crashBatch, key: k.b, other: k.a, value: v(5)}, {kind: crashReopen}, put(k.b, 4),
		},
		"line":     {put(k.a, 0), {kind: crashBatch, key: k.b, other: k.same[0], value: v(1)}, put(k.b, 2)},
		"window":   {put(k.a, 0), put(k.b, 1)},
		"halves":   {put(k.a, 0), put(k.other[20], 1)},
		"doubling": {put(k.a, 0), {kind: crashDelete, key: k.same[0]}, {kind: crashCut}, put(k.a, 1), put(k.extra[30], 2)},
		// A directory of two bits, in blocks that lie differently to the lines.
		"deep": slices.Concat(there, there, there, there, back, back, back, back),
		"aside": {{kind: crashBatch, key: k.b, other: k.a, value: v(0)}, aside(put(k.b, 1)),
			{kind: crashCut}, aside(put(k.a, 2))},
		"chain": {put(k.a, 0), {kind: crashCut}, put(k.a, 1), put(k.b, 2)},
	}
}

type mutantTrace struct {
	name    string
	trace   *crashtest.Trace
	suite   crashtest.Suite
	mu      *sync.Mutex // guards the suite
	mutants []crashtest.Mutant
}

// mutantTraces records the workloads, and what a second process does after the
// first was killed.
func mutantTraces(t *testing.T, s crashSetup) (out []mutantTrace) {
	k := theCrashWorld()
	starts := slices.Concat(crashStarts, []crashStart{
		{"chain", func(k crashWorld) []crashOp { return crashPuts(k.same[:32]...) }},
		{"deep", func(k crashWorld) []crashOp {
			return slices.Concat(crashPuts(k.same[:20]...), crashPuts(k.extra[30:40]...), crashPuts(k.other[:2]...),
				crashPuts(k.same[20:23]...), crashPuts(k.a), crashPuts(k.other[2:26]...))
		}},
		{"aside", func(k crashWorld) []crashOp { return crashPuts(k.a) }},
	})
	for _, start := range starts {
		ops := mutantPrograms(k)[start.name]
		if ops == nil {
			continue
		}
		startOps := start.ops(k)
		image := crashTornSlot(s, crashImageAfter(s, crashFillFreeSpace(s, crashEmptyImage(s, 1)), startOps))
		p := crashProgram{setup: s, start: crashAfter(startOps), ops: ops}
		tracer := crashtest.NewTracer(image)
		tracer.Sites = true
		_, err := p.Run(tracer)
		require.NoError(t, err)
		trace := tracer.Trace()
		oracle := func(useEvery uint64) *crashOracle {
			o := newCrashOracle(p, k.extra[:30], &crashBench{setup: s})
			o.useEvery = useEvery
			return o
		}
		suite := crashtest.Suite{Model: s.model, Bound: crashtest.Bound{Images: 64, Pairs: 40, Samples: 20}, Oracle: oracle(4)}
		out = append(out, mutantTrace{name: s.name + "/" + start.name, trace: trace, suite: suite})
		for kill, n := trace.Find(0, crashtest.Begin, 0), 0; kill < len(trace.Events); kill++ {
			if !crashKillsHere(trace, kill) {
				continue
			}
			structure := start.name == "halves" || start.name == "doubling" || start.name == "deep" || start.name == "chain"
			e := &trace.Events[kill-1]
			if n++; e.Kind == crashtest.Store && !allMutants() {
				// Just before a write-back most is lost.
				late := trace.Events[kill].Kind == crashtest.WriteBack || s.model == crashtest.PageCache && n%8 == 0
				inPlace := strings.Contains(e.Site, ".redirect:") || strings.Contains(e.Site, ".link:")
				if !late || structure && !inPlace && n%4 != 0 || start.name == "deep" && !inPlace {
					continue
				}
			}
			next := trace.Resume(kill)
			next.Sites = true
			life := &crashSecondLife{setup: s, blind: kill%3 != 1 || structure, keys: k.extra[:3]}
			if life.blind {
				life.keys = k.extra[:6]
			}
			second := oracle(16)
			require.NoError(t, life.run(next, second), "killed after event %d", kill)
			second.second = life
			suite.Oracle = second
			switch {
			case e.Kind == crashtest.Copy: // a record torn, and the next one
				suite.Bound = crashtest.Bound{Images: 64, Pairs: 120, Samples: 10}
			case structure:
				suite.Bound = crashtest.Bound{Images: 8, Pairs: 6, Samples: 4}
			}
			out = append(out, mutantTrace{name: fmt.Sprintf("%s/%s killed after %d", s.name, start.name, kill), trace: next.Trace(), suite: suite})
		}
	}
	return out
}

// crashTornSlot makes the superblock slot that does not count one that a crash tore:
// nothing may depend on what it holds.
func crashTornSlot(s crashSetup, image []byte) []byte {
	g := s.geometry(1)
	newest, at := uint64(0), uint64(0)
	for _, off := range g.Regions().Superblock {
		s, ok := layout.DecodeSuperblock(g, image[off:])
		switch {
		case !ok:
			at = off
		case newest == 0 || s.Sequence < newest:
			at = off
		}
		if ok {
			newest = max(newest, s.Sequence)
		}
	}
	for i := range g.SuperblockBytes() {
		image[int(at)+i] = byte(0x5a + i)
	}
	return image
}

// crashKillsHere: after each store of a word, which is what commits, and of a session
// record or superblock.
func crashKillsHere(trace *crashtest.Trace, n int) bool {
	e := trace.Events[n-1]
	return e.Kind == crashtest.Store && e.Off >= 3*layout.PageBytes || e.Kind == crashtest.Copy && e.Bytes == layout.PageBytes
}

// allMutants: PMEMTABLE_MUTANTS=all tries every instance of every mistake; otherwise
// one that is killed stands for its place.
func allMutants() bool { return os.Getenv("PMEMTABLE_MUTANTS") == "all" }

// instance is a mutant of one of the traces.
type instance struct{ trace, mutant int }

// mutantFate is a mistake at one place: its instances, and what became of them.
type mutantFate struct {
	what          string
	instances     []instance
	tried, killed int
	how           string // it was killed, the last time
}

// mutantFates lists the mistakes and deals out their instances trace by trace, so
// that the first ones are as different as can be.
func mutantFates(traces []mutantTrace) []*mutantFate {
	of := map[string]*mutantFate{}
	turn := map[instance]int{} // how often its trace had the mistake before
	var fates []*mutantFate
	for i := range traces {
		seen := map[string]int{}
		for j, m := range traces[i].mutants {
			what := m.Site + ": " + m.What
			fate := of[what]
			if fate == nil {
				fate = &mutantFate{what: what}
				of[what] = fate
				fates = append(fates, fate)
			}
			at := instance{i, j}
			fate.instances = append(fate.instances, at)
			turn[at] = seen[what]
			seen[what]++
		}
	}
	for _, fate := range fates {
		slices.SortStableFunc(fate.instances, func(a, b instance) int {
			return cmp.Compare(turn[a], turn[b])
		})
	}
	slices.SortFunc(fates, func(a, b *mutantFate) int { return strings.Compare(a.what, b.what) })
	return fates
}

// try tries the instances until one is killed.
func (f *mutantFate) try(traces []mutantTrace) error {
	for _, at := range f.instances {
		if f.killed > 0 && !allMutants() {
			return nil
		}
		f.tried++
		w := &traces[at.trace]
		w.mu.Lock()
		_, err := w.suite.Crash(w.mutants[at.mutant].Trace())
		w.mu.Unlock()
		var v *crashtest.Violation
		if errors.As(err, &v) {
			f.killed++
			f.how = fmt.Sprintf("%s: %v", w.name, v)
		} else if err != nil {
			return fmt.Errorf("%s: %s: %w", w.name, f.what, err)
		}
	}
	return nil
}

var callLine = regexp.MustCompile(`^(.*):(\d+): (.*)$`)

// stableNames names the mistakes without line numbers: the function, which of its
// call sites, and what was done there.
func stableNames(fates []*mutantFate) map[*mutantFate]string {
	lines := map[string][]int{}
	for _, f := range fates {
		m := callLine.FindStringSubmatch(f.what)
		n, _ := strconv.Atoi(m[2])
		if !slices.Contains(lines[m[1]], n) {
			lines[m[1]] = append(lines[m[1]], n)
			slices.Sort(lines[m[1]])
		}
	}
	names := map[*mutantFate]string{}
	for _, f := range fates {
		m := callLine.FindStringSubmatch(f.what)
		n, _ := strconv.Atoi(m[2])
		names[f] = fmt.Sprintf("%s call %d: %s", m[1], slices.Index(lines[m[1]], n)+1, m[3])
	}
	return names
}

// inParallel runs fn for 0 to n-1 on two goroutines and returns the errors.
func inParallel(n int, fn func(i int) error) error {
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		errs = make([]error, n)
	)
	for range 2 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs[i] = fn(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func TestCrashMutants(t *testing.T) {
	if os.Getenv("PMEMTABLE_MUTANTS") == "" {
		t.Skip("make mutants runs it")
	}
	var traces []mutantTrace
	for _, s := range []crashSetup{crashX86, crashCache} {
		traces = append(traces, mutantTraces(t, s)...)
	}
	for _, scan := range []bool{false, true} {
		traces = append(traces, crashReaderTrace(t, crashX86, []byte("read0000"), scan))
	}
	traces = append(traces, crashWritersTrace(t, crashX86))
	const seed = 1
	shuffle := func(list []mutantTrace) {
		rand.New(rand.NewPCG(seed, seed)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	shuffle(traces)
	// Last, and few: most mistakes are not the log's, and killed before.
	logged := slices.DeleteFunc(mutantTraces(t, crashLog), func(w mutantTrace) bool {
		return !strings.HasPrefix(w.name, "cache-log/empty") && !strings.HasPrefix(w.name, "cache-log/dirty")
	})
	shuffle(logged)
	traces = append(traces, logged...)
	require.NoError(t, inParallel(len(traces), func(i int) error {
		w := &traces[i]
		w.mu, w.mutants, w.suite.Seen = new(sync.Mutex), w.trace.Mutants(), crashtest.Seen{}
		if _, err := w.suite.Crash(w.trace); err != nil {
			return fmt.Errorf("%s without a mistake: %w", w.name, err)
		}
		return nil
	}))
	fates := mutantFates(traces)
	require.NoError(t, inParallel(len(fates), func(i int) error { return fates[i].try(traces) }))
	judgeMutants(t, traces, fates)
}

// judgeMutants prints what became of the mutants. It fails on one that survived and
// is not on the list of equivalent ones, and on one of the list that was killed.
func judgeMutants(t *testing.T, traces []mutantTrace, fates []*mutantFate) {
	names := stableNames(fates)
	dead, tried, listed := 0, 0, map[string]int{}
	for _, f := range fates {
		tried += f.tried
		name := names[f]
		entry := equivalentTo(name)
		listed[entry.what]++
		switch {
		case f.killed > 0:
			dead++
			if entry.why != "" {
				t.Errorf("killed, but listed as equivalent: %s: %s", name, f.how)
			}
		case entry.why != "":
			fmt.Printf("equivalent: %s (%d instances): %s\n", name, f.tried, entry.why)
		default:
			t.Errorf("survived: %s, %d instances (%s, as in %s)", name, len(f.instances), f.what, traces[f.instances[0].trace].name)
		}
	}
	equivalent := 0
	for _, e := range equivalentMutants {
		if equivalent += listed[e.what]; listed[e.what] == 0 {
			t.Errorf("listed as equivalent, but there is no such instruction: %s", e.what)
		}
	}
	fmt.Printf("%d instances tried on %d traces, seed 1; %d equivalent\n", tried, len(traces), equivalent)
	fmt.Printf("killed / all: %d / %d\n", dead, len(fates)-equivalent)
}

// equivalentMutant is a mistake that no crash can show, by the beginning of its name,
// and why.
type equivalentMutant struct{ what, why string }

const hoisted = ": store before the drain that it follows"

// equivalentMutants is short, and each entry was thought through.
var equivalentMutants = []equivalentMutant{
	{"pmem.(*Pool).beginSession call 3" + hoisted, "that the log is being taken up is for readers of other processes; an open reads the session record"},
	{"pmem.(*Pool).WriteIntent call 1" + hoisted, "the number alone decides nothing: the count word has a checksum over it"},
	{"pmem.(*Pool).WriteIntent call 2: write-back of 80 bytes", "the intent of Clear is one word, which is atomic by itself, and readers begin at the new root after its drain"},
	{"recovery.redoIntent call 1: write-back of 80 bytes", "an intent of one word, which is atomic by itself"},
	{"pmem.(*allocator).describe call 1" + hoisted, "a descriptor that is durable early describes a chunk that nothing refers to"},
	{"recovery.(*Start).order call 1" + hoisted, "the idle root area is drained before the pointer to it is stored"},
	{"recovery.Begin call 1" + hoisted, "an epoch that is durable early only skips numbers"},
	{"table.(*Table).swapRoots call 2" + hoisted, "the pointer is one word, and readers begin at the new root after its drain"},
	{"table.(*Table).swapRoots call 3: drain dropped", "that of the cleared intent follows at once"},
	{"recovery.Begin call 2: drain dropped", "the session record is stored after a drain of its own"},
	{"table.(*Table).publish call 3" + hoisted, "the pending bit tells readers to drain, and recovery nothing: TestReaderMakesDurableWhatItAnswers"},
	{"table.(*putGroup).finish call 2" + hoisted, "the pending bit, likewise"},
	{"table.(*Table).setOverflow.func1 call 1" + hoisted, "an overflow bit that is durable early only makes lookups look further"},
	{"table.(*Table).link call 2: drain dropped", "that of the slot follows before the call returns; a reader that answers from the slot before needs this one, and no trace here has such a reader"},
	{"table.(*Table).redirect call 2: drain dropped", "likewise"},
	{"table.(*Table).advanceVersions call 1" + hoisted, "versions matter to the readers of a live process, not across a crash"},
}

// equivalentTo is the entry for a mistake, empty if it is not listed.
func equivalentTo(name string) equivalentMutant {
	for _, e := range equivalentMutants {
		if strings.HasPrefix(name, e.what) {
			return e
		}
	}
	return equivalentMutant{}
}
