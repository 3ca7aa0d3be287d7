package table_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
)

// crashReadDone is the operation of the reader: a Get.
const crashReadDone = 200

// crashStoppedWriter does some operations, and is stopped in the last of them, an
// update, between the store of the slot and its drain; meanwhile a reader gets
// the key.
type crashStoppedWriter struct {
	setup crashSetup
	start crashContent
	ops   []crashOp
	scan  bool // the reader iterates
}

func (w crashStoppedWriter) last() crashOp { return w.ops[len(w.ops)-1] }

func (w crashStoppedWriter) run(image []byte) (*crashtest.Trace, error) {
	stop, err := w.pendingStore(image)
	if err != nil {
		return nil, err
	}
	tracer := crashtest.NewTracer(image)
	tracer.Sites = true
	c := crashTable{setup: w.setup, heap: pmem.NewHeap(image, w.setup.maxBytes()), hook: tracer}
	if err := c.open(); err != nil {
		return nil, err
	}
	defer c.tab.Die()
	stopped, goOn, done := make(chan bool), make(chan bool), make(chan error)
	tracer.Gate(stop, func() { close(stopped); <-goOn })
	go func() { done <- w.write(&c, tracer) }()
	<-stopped
	tracer.Begin(crashReadDone)
	got, err := w.read(&c)
	tracer.Ack(crashReadDone)
	close(goOn)
	if e := <-done; e != nil {
		return nil, e
	}
	if w.last().value != nil && string(got) != string(w.last().value) {
		return nil, fmt.Errorf("the reader got %q, %v: the writer was not stopped where it was meant to be", got, err)
	}
	return tracer.Trace(), nil
}

func (w crashStoppedWriter) read(c *crashTable) (value []byte, err error) {
	if !w.scan {
		return c.tab.Get(w.last().key)
	}
	for k, v := range c.tab.All() {
		if string(k) == string(w.last().key) {
			value = v
		}
	}
	return value, c.tab.Err()
}

func (w crashStoppedWriter) write(c *crashTable, t *crashtest.Tracer) error {
	now := w.start
	for i, o := range w.ops {
		t.Begin(i)
		err := c.do(o, now)
		t.Ack(i)
		if err != nil {
			return err
		}
		now = now.after(o)
	}
	return nil
}

// pendingStore finds the event at which the writer is to be stopped: the last store
// before the last drain, which is that of the slot.
func (w crashStoppedWriter) pendingStore(image []byte) (int, error) {
	tracer := crashtest.NewTracer(image)
	c := crashTable{setup: w.setup, heap: pmem.NewHeap(image, w.setup.maxBytes()), hook: tracer}
	if err := c.open(); err != nil {
		return 0, err
	}
	err := w.write(&c, tracer)
	c.tab.Die()
	trace := tracer.Trace()
	arena := w.setup.geometry(1).Regions().Arena
	for n := len(trace.Events) - 1; n >= trace.Find(0, crashtest.Begin, len(w.ops)-1); n-- {
		e := &trace.Events[n]
		last := n+1 < len(trace.Events) && trace.Events[n+1].Kind == crashtest.WriteBack
		if last && e.Kind == crashtest.Store && e.Off >= arena {
			return n, err
		}
	}
	if err == nil {
		err = fmt.Errorf("no slot was stored and drained")
	}
	return 0, err
}

// crashReaderOracle: what the reader saw stays.
type crashReaderOracle struct{ *crashOracle }

func (o crashReaderOracle) Judge(c *crashtest.Crash) error {
	o.crashOracle.second = nil
	f := *c
	defer func() { c.Read = f.Read }()
	if slices.Contains(c.Acked, crashReadDone) {
		o.crashOracle.second = &crashSecondLife{setup: o.setup, saw: o.states[len(o.ops)]}
		f.Acked, f.Pending = nil, nil
		for op := range o.ops {
			f.Acked = append(f.Acked, op)
		}
		f.Acked = append(f.Acked, crashObserved)
		return o.crashOracle.Judge(&f)
	}
	f.Pending = slices.DeleteFunc(slices.Clone(c.Pending), func(op int) bool { return op == crashReadDone })
	return o.crashOracle.Judge(&f)
}

// crashReaderTrace is that of a writer that is stopped.
func crashReaderTrace(t *testing.T, s crashSetup, r crashReader, scan bool) mutantTrace {
	k := s.world()
	image := crashImageAfter(s, crashEmptyImage(s, 1), r.start)
	w := crashStoppedWriter{setup: s, start: crashAfter(r.start), ops: r.ops, scan: scan}
	trace, err := w.run(image)
	require.NoError(t, err)
	p := crashProgram{setup: s, start: w.start, ops: r.ops}
	oracle := crashReaderOracle{newCrashOracle(p, k.extra[:30], &crashBench{})}
	suite := crashtest.Suite{Model: s.model, Oracle: oracle, Bound: crashTinyOr(crashtest.Bound{})}
	if s.inline { // an overwrite has many words in flight: all of their states are too many
		suite.Bound = crashTinyOr(mutantBound)
	}
	return mutantTrace{name: s.name + "/reader of " + r.name, trace: trace, suite: suite}
}

// crashReader is a program whose last operation a reader meets: one that changes no
// structure, or one that stores the word that leads to the slot.
type crashReader struct {
	name       string
	start, ops []crashOp
}

func crashReaders(k crashWorld) []crashReader {
	put := func(key []byte, value string) crashOp { return crashOp{kind: crashPut, key: key, value: []byte(value)} }
	there := crashPuts(k.a, k.b)
	return []crashReader{
		{"update", there, []crashOp{put(k.a, "read0000")}},
		{"delete", there, crashDeletes(k.a)},
		{
			// The first put copies the directory, so that the second stores a word of it.
			"redirect",
			slices.Concat(crashPuts(k.same[:k.window-11]...), crashPuts(k.other[:12]...), crashDeletes(k.same[1:k.window-12]...)),
			[]crashOp{put(k.a, "first000"), put(k.other[0], "read0000")},
		},
		{
			// The key is in an overflow segment, which its update copies.
			"link",
			crashPuts(slices.Concat(k.same[:k.window], [][]byte{k.a})...),
			[]crashOp{put(k.a, "read0000")},
		},
	}
}

// TestReaderMakesDurableWhatItAnswers: a Get that meets a value which its writer
// has stored but not drained makes it durable itself. Without that, some crash
// takes back what the reader was told.
func TestReaderMakesDurableWhatItAnswers(t *testing.T) {
	for _, s := range []crashSetup{crashX86, crashARM, crashInline, crashInlineARM} {
		for _, r := range crashReaders(s.world()) {
			for _, scan := range []bool{false, true} {
				w := crashReaderTrace(t, s, r, scan)
				figures, err := w.suite.Crash(w.trace)
				require.NoError(t, err, w.name)
				t.Log(w.name, figures)
				read := w.trace.Find(0, crashtest.Begin, crashReadDone)
				drain := w.trace.Find(read, crashtest.Drain, 0)
				require.Less(t, drain, w.trace.Find(0, crashtest.Ack, crashReadDone), "%s: the reader drains before it answers", w.name)
				require.True(t, crashKillsMutantOf(&w, drain), "%s: a reader that does not drain is found out", w.name)
			}
		}
	}
}

// crashKillsMutantOf tells whether a crash shows one of the mistakes at an event.
func crashKillsMutantOf(w *mutantTrace, event int) (killed bool) {
	for _, m := range w.trace.From(event).Mutants() {
		if m.Event == event {
			_, err := w.suite.Crash(m.Trace())
			killed = killed || err != nil
		}
	}
	return killed
}

// TestLinksAreDurableForReaders: the reader makes the slot durable that it answers from,
// and nothing else. So the word that leads to a segment must be, on the writer's side,
// before it stores a slot there; the writer's next drain comes too late.
func TestLinksAreDurableForReaders(t *testing.T) {
	for _, s := range []crashSetup{crashX86, crashARM, crashInline, crashInlineARM} {
		for _, r := range crashReaders(s.world()) {
			if r.name != "link" && r.name != "redirect" {
				continue
			}
			w := crashReaderTrace(t, s, r, false)
			found := 0
			for i := w.trace.Find(0, crashtest.Begin, len(r.ops)-1); i < len(w.trace.Events); i++ {
				if e := &w.trace.Events[i]; e.Kind == crashtest.Drain && strings.Contains(e.Site, ")."+r.name+":") {
					found++
					require.True(t, crashKillsMutantOf(&w, i), "%s: %v", s.name, e)
				}
			}
			require.Equal(t, 1, found, w.name)
		}
	}
}
