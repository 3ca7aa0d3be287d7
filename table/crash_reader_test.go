package table_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
)

// crashReadDone is the operation of the reader: a Get.
const crashReadDone = 200

// crashStoppedWriter updates a key and is stopped between the store of the pending slot
// and its drain; meanwhile a reader gets the key.
type crashStoppedWriter struct {
	setup crashSetup
	key   []byte
	value []byte // nil deletes
	scan  bool   // the reader iterates
}

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
	if w.value != nil && string(got) != string(w.value) {
		return nil, fmt.Errorf("the reader got %q, %v: the writer was not stopped where it was meant to be", got, err)
	}
	return tracer.Trace(), nil
}

func (w crashStoppedWriter) read(c *crashTable) (value []byte, err error) {
	if !w.scan {
		return c.tab.Get(w.key)
	}
	for k, v := range c.tab.All() {
		if string(k) == string(w.key) {
			value = v
		}
	}
	return value, c.tab.Err()
}

func (w crashStoppedWriter) write(c *crashTable, t *crashtest.Tracer) error {
	o := crashOp{kind: crashPut, key: w.key, value: w.value}
	if w.value == nil {
		o.kind = crashDelete
	}
	t.Begin(0)
	err := c.do(o, nil)
	t.Ack(0)
	return err
}

// pendingStore finds the event at which the writer is to be stopped.
func (w crashStoppedWriter) pendingStore(image []byte) (int, error) {
	tracer := crashtest.NewTracer(image)
	c := crashTable{setup: w.setup, heap: pmem.NewHeap(image, w.setup.maxBytes()), hook: tracer}
	if err := c.open(); err != nil {
		return 0, err
	}
	err := w.write(&c, tracer)
	c.tab.Die()
	trace := tracer.Trace()
	n := slices.IndexFunc(trace.Events, func(e crashtest.Event) bool {
		return e.Kind == crashtest.Store && e.Off >= layout.Geometry(crashGeometry(1)).Regions().Arena && e.Word&layout.SlotPending != 0
	})
	if err == nil && n < 0 {
		err = fmt.Errorf("no slot was stored with the pending bit")
	}
	return n, err
}

// crashReaderOracle: what the reader saw stays.
type crashReaderOracle struct {
	*crashOracle
	after crashContent
}

func (o crashReaderOracle) Judge(c *crashtest.Crash) error {
	o.crashOracle.second = nil
	if slices.Contains(c.Acked, crashReadDone) {
		o.crashOracle.second = &crashSecondLife{setup: o.setup, saw: o.after}
		f := *c
		f.Acked, f.Pending = []int{0, crashObserved}, nil
		return o.crashOracle.Judge(&f)
	}
	f := *c
	f.Pending = slices.DeleteFunc(slices.Clone(c.Pending), func(op int) bool { return op == crashReadDone })
	return o.crashOracle.Judge(&f)
}

func crashReaderTrace(t *testing.T, s crashSetup, value []byte, scan bool) mutantTrace {
	k := theCrashWorld()
	start := crashPuts(k.a, k.b)
	image := crashImageAfter(s, crashEmptyImage(s, 1), start)
	w := crashStoppedWriter{setup: s, key: k.a, value: value, scan: scan}
	trace, err := w.run(image)
	require.NoError(t, err)
	o := crashOp{kind: crashPut, key: k.a, value: value}
	if value == nil {
		o.kind = crashDelete
	}
	p := crashProgram{setup: s, start: crashAfter(start), ops: []crashOp{o}}
	oracle := crashReaderOracle{newCrashOracle(p, k.extra[:30], &crashBench{}), crashAfter(start).after(o)}
	suite := crashtest.Suite{Model: s.model, Oracle: oracle, Bound: crashTinyOr(crashtest.Bound{})}
	return mutantTrace{name: s.name + "/reader", trace: trace, suite: suite}
}

// TestReaderMakesDurableWhatItAnswers: a Get that meets a value which its writer
// has stored but not drained makes it durable itself. Without that, some crash
// takes back what the reader was told.
func TestReaderMakesDurableWhatItAnswers(t *testing.T) {
	for _, s := range []crashSetup{crashX86, crashARM} {
		for i, value := range [][]byte{[]byte("read0000"), nil, []byte("read0000"), nil} {
			w := crashReaderTrace(t, s, value, i >= 2)
			figures, err := w.suite.Crash(w.trace)
			require.NoError(t, err)
			t.Log(figures)
			read := w.trace.Find(0, crashtest.Begin, crashReadDone)
			drain := w.trace.Find(read, crashtest.Drain, 0)
			require.Less(t, drain, w.trace.Find(0, crashtest.Ack, crashReadDone), "the reader drains before it answers")
			killed := false
			for _, m := range w.trace.From(read).Mutants() {
				if m.Event == drain {
					_, err := w.suite.Crash(m.Trace())
					killed = err != nil
				}
			}
			require.True(t, killed, "a reader that does not drain is found out")
		}
	}
}
