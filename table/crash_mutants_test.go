package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
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
	return map[string][]crashOp{
		"empty": {put(k.a, 0), put(k.b, 1), put(k.a, 2), {kind: crashDelete, key: k.b},
			{kind: crashMany, key: k.b, other: k.far, value: bytes.Repeat(v(3), 8)}},
		"dirty": {
			put(k.a, 0), {kind: crashCut}, put(k.b, 1), {kind: crashBatch, key: k.b, other: k.a, value: v(2)},
			{kind: crashClear}, put(k.a, 3), {kind: crashSync}, {kind: crashBatch, key: k.b, other: k.a, value: v(5)}, {kind: crashReopen}, put(k.b, 4),
		},
		"line":     {put(k.a, 0), {kind: crashBatch, key: k.b, other: k.same[0], value: v(1)}},
		"window":   {put(k.a, 0), put(k.b, 1)},
		"halves":   {put(k.a, 0), put(k.other[20], 1)},
		"doubling": {put(k.a, 0), {kind: crashDelete, key: k.same[0]}},
		"chain":    {put(k.a, 0), {kind: crashCut}, put(k.a, 1), put(k.b, 2)},
	}
}

type mutantTrace struct {
	name  string
	trace *crashtest.Trace
	suite crashtest.Suite
}

// mutantTraces records the workloads, and what a second process does after the
// first was killed.
func mutantTraces(t *testing.T, s crashSetup) (out []mutantTrace) {
	k := theCrashWorld()
	starts := slices.Concat(crashStarts, []crashStart{
		{"chain", func(k crashWorld) []crashOp { return crashPuts(k.same[:32]...) }},
	})
	for _, start := range starts {
		ops := mutantPrograms(k)[start.name]
		if ops == nil {
			continue
		}
		startOps := start.ops(k)
		image := crashImageAfter(s, crashFillFreeSpace(crashEmptyImage(s, 1)), startOps)
		p := crashProgram{setup: s, start: crashAfter(startOps), ops: ops}
		tracer := crashtest.NewTracer(image)
		tracer.Sites = true
		_, err := p.Run(tracer)
		require.NoError(t, err)
		trace := tracer.Trace()
		oracle := func() *crashOracle {
			o := newCrashOracle(p, k.extra[:30], &crashBench{reboots: s.reboots})
			o.light = true
			return o
		}
		suite := crashtest.Suite{Model: s.model, Bound: crashtest.Bound{Images: 64, Pairs: 40, Samples: 20}, Oracle: oracle()}
		out = append(out, mutantTrace{s.name + "/" + start.name, trace, suite})
		for kill, n := trace.Find(0, crashtest.Begin, 0), 0; kill < len(trace.Events); kill++ {
			if !crashKillsHere(trace, kill) {
				continue
			}
			if n++; n%2 == 0 && !allMutants() && trace.Events[kill-1].Kind == crashtest.Store {
				continue
			}
			next := trace.Resume(kill)
			next.Sites = true
			life := &crashSecondLife{setup: s, blind: kill%3 != 0, keys: k.extra[:3]}
			second := oracle()
			require.NoError(t, life.run(next, second), "killed after event %d", kill)
			second.second = life
			suite.Oracle = second
			out = append(out, mutantTrace{fmt.Sprintf("%s/%s killed after %d", s.name, start.name, kill), next.Trace(), suite})
		}
	}
	return out
}

// crashKillsHere: after each store of a word, which is what commits, and of a session
// record or superblock.
func crashKillsHere(trace *crashtest.Trace, n int) bool {
	e := trace.Events[n-1]
	return e.Kind == crashtest.Store && e.Off >= 3*layout.PageBytes || e.Kind == crashtest.Copy && e.Bytes == layout.PageBytes
}

// allMutants: PMEMTABLE_MUTANTS=all tries every instance of every mistake; otherwise
// one that is killed stands for its place, and maxTries that are not are enough.
func allMutants() bool { return os.Getenv("PMEMTABLE_MUTANTS") == "all" }

const maxTries = 30

// mutantFate is what became of the instances of one mistake at one place.
type mutantFate struct{ killed, tried, all int }

type mutantFates struct {
	sync.Mutex
	of map[string]*mutantFate
}

// due counts an instance and tells whether to try it.
func (f *mutantFates) due(what string) bool {
	f.Lock()
	defer f.Unlock()
	fate := f.of[what]
	if fate == nil {
		fate = &mutantFate{}
		f.of[what] = fate
	}
	fate.all++
	if !allMutants() && (fate.killed > 0 || fate.tried >= maxTries) {
		return false
	}
	fate.tried++
	return true
}

func (f *mutantFates) killed(what string) {
	f.Lock()
	defer f.Unlock()
	f.of[what].killed++
}

func TestCrashMutants(t *testing.T) {
	if os.Getenv("PMEMTABLE_MUTANTS") == "" {
		t.Skip("make mutants runs it")
	}
	var (
		fates = mutantFates{of: map[string]*mutantFate{}}
		work  = make(chan mutantTrace)
		wg    sync.WaitGroup
	)
	for range 2 {
		wg.Go(func() {
			for w := range work {
				w.run(t, &fates)
			}
		})
	}
	var traces []mutantTrace
	for _, s := range []crashSetup{crashX86, crashCache} {
		traces = append(traces, mutantTraces(t, s)...)
	}
	for _, scan := range []bool{false, true} {
		traces = append(traces, crashReaderTrace(t, crashX86, []byte("read0000"), scan))
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(traces), func(i, j int) { traces[i], traces[j] = traces[j], traces[i] })
	for _, w := range traces {
		work <- w
	}
	close(work)
	wg.Wait()
	dead, tried := 0, 0
	var survivors []string
	for what, f := range fates.of {
		tried += f.tried
		if f.killed > 0 {
			dead++
		} else {
			survivors = append(survivors, fmt.Sprintf("survived: %s (%d of %d instances tried)", what, f.tried, f.all))
		}
	}
	slices.Sort(survivors)
	fmt.Println(strings.Join(survivors, "\n"))
	fmt.Printf("%d instances tried on %d traces\n", tried, len(traces))
	fmt.Printf("killed / all: %d / %d\n", dead, len(fates.of))
}

// run tries the mutants of a trace.
func (w mutantTrace) run(t *testing.T, fates *mutantFates) {
	w.suite.Seen = crashtest.Seen{}
	if _, err := w.suite.Crash(w.trace); err != nil {
		t.Errorf("%s without a mistake: %v", w.name, err)
		return
	}
	for _, m := range w.trace.Mutants() {
		what, _, _ := strings.Cut(m.String(), " (event")
		if !fates.due(what) {
			continue
		}
		_, err := w.suite.Crash(m.Trace)
		var v *crashtest.Violation
		if errors.As(err, &v) {
			fates.killed(what)
		} else if err != nil {
			t.Error(err)
		}
	}
}
