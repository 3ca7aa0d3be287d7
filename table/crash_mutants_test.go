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
	programs := map[string][]crashOp{
		"empty": {put(k.a, 0), put(k.b, 1), put(k.a, 2), {kind: crashDelete, key: k.b},
			{kind: crashMany, key: k.b, other: k.far, value: k.long(v(3))}},
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
	if k.inline { // where 0 is overwritten, two drains are needed
		zero := crashOp{kind: crashPut, key: k.a, value: make([]byte, layout.InlineValueBytes)}
		programs["line"] = append(programs["line"], zero, put(k.a, 6))
	}
	return programs
}

// long is a value of several lines, where the form of entries has such.
func (k crashWorld) long(v []byte) []byte {
	if k.inline {
		return v
	}
	return bytes.Repeat(v, 8)
}

type mutantTrace struct {
	name    string
	trace   *crashtest.Trace
	second  bool // it is that of a process behind one that was killed
	suite   crashtest.Suite
	mu      *sync.Mutex // guards the suite, and sound
	sound   bool        // without a mistake no crash hurts it: found out before the first mutant
	mutants []crashtest.Mutant
}

// crash crashes the trace with a mistake.
func (w *mutantTrace) crash(m crashtest.Mutant) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.sound {
		if _, err := w.suite.Crash(w.trace); err != nil {
			return fmt.Errorf("%s without a mistake: %s", w.name, err) // no Violation of the mutant's
		}
		w.sound = true
	}
	_, err := w.suite.Crash(m.Trace())
	return err
}

// mutantTraces records the workloads with the given starts, or all, and what a second
// process does after the first was killed.
func mutantTraces(t *testing.T, s crashSetup, only ...string) (out []mutantTrace) {
	k := s.world()
	starts := slices.Concat(crashStarts, []crashStart{
		{"chain", func(k crashWorld) []crashOp { return crashPuts(k.same[:k.window]...) }},
		{"deep", func(k crashWorld) []crashOp {
			return slices.Concat(crashPuts(k.same[:k.window-12]...), crashPuts(k.extra[30:40]...), crashPuts(k.other[:2]...),
				crashPuts(k.same[k.window-12:][:k.more]...), crashPuts(k.a), crashPuts(k.other[2:k.window-6]...))
		}},
		{"aside", func(k crashWorld) []crashOp { return crashPuts(k.a) }},
	})
	for _, start := range starts {
		ops := mutantPrograms(k)[start.name]
		if ops == nil || len(only) > 0 && !slices.Contains(only, start.name) {
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
		suite := func(second *crashSecondLife) crashtest.Suite {
			o := newCrashOracle(p, k.extra[:30], &crashBench{setup: s})
			o.second = second
			return crashtest.Suite{Model: s.model, Bound: mutantBound, Oracle: o}
		}
		out = append(out, mutantTrace{name: s.name + "/" + start.name, trace: trace, suite: suite(nil)})
		for _, kill := range crashKills(trace) {
			for _, blind := range []bool{false, true} {
				life := &crashSecondLife{setup: s, blind: blind, keys: k.extra[:3]}
				if blind {
					life.keys = k.blindKeys(6)
				}
				next := trace.Resume(kill)
				next.Sites = true
				w := mutantTrace{name: fmt.Sprintf("%s/%s killed after %d, blind %v", s.name, start.name, kill, blind), second: true, suite: suite(life)}
				require.NoError(t, life.run(next, w.suite.Oracle.(*crashOracle)), w.name)
				w.trace = next.Trace()
				out = append(out, w)
			}
		}
	}
	return out
}

// mutantBound has nothing drawn at random: whether a mutant is killed is no matter of luck.
var mutantBound = crashtest.Bound{Images: 64, Pairs: -1, Samples: -1}

// crashKills are the events of a trace after which a process is killed: the first and the
// last time that each place in the code commits something, and every time that it stores
// a word of a structure in place.
func crashKills(trace *crashtest.Trace) (kills []int) {
	first, last := map[string]int{}, map[string]int{}
	for kill := trace.Find(0, crashtest.Begin, 0) + 1; kill < len(trace.Events); kill++ {
		if !crashKillsHere(trace, kill) {
			continue
		}
		site := trace.Events[kill-1].Site
		if strings.Contains(site, ".redirect:") || strings.Contains(site, ".link:") {
			site += fmt.Sprint(kill)
		}
		if last[site] = kill; first[site] == 0 {
			first[site] = kill
		}
	}
	for site, kill := range first {
		kills = append(kills, kill)
		if last[site] != kill {
			kills = append(kills, last[site])
		}
	}
	slices.Sort(kills)
	return kills
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
	what          string // with the line of the place, name without
	name          string
	instances     []instance
	tried, killed int
	how           string // it was killed, the last time
}

// mutantFates lists the mistakes and deals out their instances trace by trace, so
// that the first ones are as different as can be: first those of what one process does,
// where most are killed, then those of a second one.
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
			first := func(at instance) int {
				if traces[at.trace].second {
					return 1
				}
				return 0
			}
			return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(turn[a], turn[b]))
		})
	}
	slices.SortFunc(fates, func(a, b *mutantFate) int { return strings.Compare(a.what, b.what) })
	return fates
}

// mostEquivalent is how many instances of a mistake that is listed as equivalent are tried.
const mostEquivalent = 16

// try tries the instances until one is killed.
func (f *mutantFate) try(traces []mutantTrace) error {
	for _, at := range f.instances {
		enough := f.killed > 0 || f.tried >= mostEquivalent && equivalentTo(f.name).why != ""
		if enough && !allMutants() {
			return nil
		}
		f.tried++
		w := &traces[at.trace]
		err := w.crash(w.mutants[at.mutant])
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

// nameMutants names the mistakes without line numbers: the function, which of its
// call sites, and what was done there.
func nameMutants(fates []*mutantFate) {
	lines := map[string][]int{}
	for _, f := range fates {
		m := callLine.FindStringSubmatch(f.what)
		n, _ := strconv.Atoi(m[2])
		if !slices.Contains(lines[m[1]], n) {
			lines[m[1]] = append(lines[m[1]], n)
			slices.Sort(lines[m[1]])
		}
	}
	for _, f := range fates {
		m := callLine.FindStringSubmatch(f.what)
		n, _ := strconv.Atoi(m[2])
		f.name = fmt.Sprintf("%s call %d: %s", m[1], slices.Index(lines[m[1]], n)+1, m[3])
	}
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
	traces := allMutantTraces(t)
	fates := mutantFates(traces)
	nameMutants(fates)
	require.NoError(t, inParallel(len(fates), func(i int) error { return fates[i].try(traces) }))
	judgeMutants(t, traces, fates)
}

// ofInline tells whether a mistake is in what only inline entries have: the other traces
// have the rest, with roots of fewer stripes, all of which they use.
func ofInline(m crashtest.Mutant) bool {
	return strings.Contains(m.Site, "nline") || strings.Contains(m.Site, "overflowBits") ||
		strings.Contains(m.Site, "InFlight") || strings.Contains(m.What, fmt.Sprintf("of %d bytes", layout.InlineSlotBytes))
}

// allMutantTraces are those of the gate, in an order that mixes them, so that the first
// instances of a mistake are as different as can be.
func allMutantTraces(t *testing.T) (traces []mutantTrace) {
	most := slices.Concat(mutantTraces(t, crashX86), mutantTraces(t, crashCache))
	for _, r := range crashReaders(theCrashWorld()) {
		most = append(most, crashReaderTrace(t, crashX86, r, false), crashReaderTrace(t, crashX86, r, true))
	}
	most = append(most, crashWritersTrace(t, crashX86), crashTornTrace(t, crashCache, layout.SuperMetadata))
	for _, r := range crashLeftovers(theCrashWorld())[:2] {
		most = append(most, crashLeftoverTraces(t, crashX86, r)[0])
	}
	most = append(most, crashViewTraces(t, crashX86)[:2]...)
	// What entries in the lines do otherwise, where nothing orders the words of a line.
	inline := mutantTraces(t, crashInlineARM, "empty", "line", "chain")
	for _, r := range crashReaders(theInlineWorld())[:2] {
		inline = append(inline, crashReaderTrace(t, crashInlineARM, r, false), crashReaderTrace(t, crashInlineARM, r, true))
	}
	// Last, and few: most mistakes are not the log's, and killed before.
	logged := mutantTraces(t, crashLog, "empty", "dirty")
	const seed = 1
	for _, part := range [][]mutantTrace{most, inline, logged} {
		rand.New(rand.NewPCG(seed, seed)).Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		traces = append(traces, part...)
	}
	for i := range traces {
		w := &traces[i]
		w.mu, w.mutants, w.suite.Seen = new(sync.Mutex), w.trace.Mutants(), crashtest.Seen{}
		if strings.HasPrefix(w.name, crashInlineARM.name) {
			w.mutants = slices.DeleteFunc(w.mutants, func(m crashtest.Mutant) bool { return !ofInline(m) })
		}
	}
	return traces
}

// judgeMutants prints what became of the mutants. It fails on one that survived and
// is not on the list of equivalent ones, and on one of the list that was killed.
func judgeMutants(t *testing.T, traces []mutantTrace, fates []*mutantFate) {
	dead, tried, listed := 0, 0, map[string]int{}
	for _, f := range fates {
		tried += f.tried
		entry := equivalentTo(f.name)
		listed[entry.what]++
		switch {
		case f.killed > 0:
			dead++
			if entry.why != "" {
				t.Errorf("killed, but listed as equivalent: %s: %s", f.name, f.how)
			}
		case entry.why != "":
			fmt.Printf("equivalent: %s (%d of %d instances): %s\n", f.name, f.tried, len(f.instances), entry.why)
		default:
			t.Errorf("survived: %s, %d instances (%s, as in %s)", f.name, len(f.instances), f.what, traces[f.instances[0].trace].name)
		}
	}
	equivalent := 0
	for _, e := range equivalentMutants {
		if equivalent += listed[e.what]; listed[e.what] == 0 {
			t.Errorf("listed as equivalent, but there is no such instruction: %s", e.what)
		}
	}
	fmt.Printf("%d instances tried on %d traces; %d equivalent\n", tried, len(traces), equivalent)
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
	{"pmem.(*Pool).VoidSlot call 1: sync dropped", "the first commit after an unclean end syncs everything before it stores to that slot"},
	{"recovery.redoIntent call 1: write-back of 80 bytes", "an intent of one word, which is atomic by itself"},
	{"pmem.(*allocator).describe call 1" + hoisted, "a descriptor that is durable early describes a chunk that nothing refers to"},
	{"recovery.(*Start).order call 1" + hoisted, "the idle root area is drained before the pointer to it is stored"},
	{"recovery.Begin call 1" + hoisted, "an epoch that is durable early only skips numbers"},
	{"table.(*Table).swapRoots call 2" + hoisted, "the pointer is one word, and readers begin at the new root after its drain"},
	{"table.(*Table).swapRoots call 3: drain dropped", "that of the cleared intent follows at once"},
	{"recovery.Begin call 2: drain dropped", "the session record is stored after a drain of its own"},
	{"table.(*Table).takeOff call 1" + hoisted, "a slot that is named in flight early only has readers drain it"},
	{"table.(*Table).land call 1" + hoisted, "the name of a slot in flight is for readers, and for the session after a kill: TestReaderMakesDurableWhatItAnswers, TestKillThenPowerLoss"},
	{"table.(*overflowBits).add call 1" + hoisted, "an overflow bit that is durable early only makes lookups look further"},
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
