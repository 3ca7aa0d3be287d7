package table_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// crashLeftover: a writer is killed between the store of a slot and its drain. The next
// process asks about the key by a call that writes, and changes nothing.
type crashLeftover struct {
	crashStoppedWriter
	answer crashAnswer
}

// crashAnswer is such a call. It fails unless it finds what the killed writer stored.
type crashAnswer struct {
	name string
	of   crashKind // of the operation that was cut off
	ask  func(t *table.Table, key, old []byte) error
}

func crashAnswers() []crashAnswer {
	not := func(done bool, err error) error {
		if err == nil && done {
			err = fmt.Errorf("it found what the killed writer had overwritten")
		}
		return err
	}
	return []crashAnswer{
		{"compare and delete", crashPut, func(t *table.Table, key, old []byte) error {
			return not(t.CompareAndDelete(key, old))
		}},
		{"delete", crashDelete, func(t *table.Table, key, _ []byte) error { return t.Delete(key) }},
		{"get and delete", crashDelete, func(t *table.Table, key, _ []byte) error {
			_, existed, err := t.GetAndDelete(key)
			return not(existed, err)
		}},
		{"batch", crashDelete, func(t *table.Table, key, _ []byte) error {
			b := table.NewBatch()
			b.Delete(key)
			return t.Apply(b)
		}},
	}
}

func (l crashLeftover) run(image []byte) (*crashtest.Trace, error) {
	stop, err := l.pendingStore(image)
	if err != nil {
		return nil, err
	}
	tracer := crashtest.NewTracer(image)
	if _, err := (crashProgram{setup: l.setup, start: l.start, ops: l.ops}).Run(tracer); err != nil {
		return nil, err
	}
	next := tracer.Trace().Resume(stop + 1)
	next.Sites = true
	p, err := pmem.OpenHeap(pmem.NewHeap(next.Image(), l.setup.maxBytes()), pmem.Options{Media: l.setup.media, Hook: next})
	c := crashTable{setup: l.setup}
	if err == nil {
		err = c.openPool(p)
	}
	if err != nil {
		return nil, err
	}
	defer c.tab.Die()
	next.Begin(crashReadDone)
	err = l.answer.ask(c.tab, l.last().key, []byte(l.start[string(l.last().key)]))
	next.Ack(crashReadDone)
	return next.Trace(), err
}

// crashLeftoverTraces are those of all calls that may meet what a reader's operation
// left.
func crashLeftoverTraces(t *testing.T, s crashSetup, r crashReader) (out []mutantTrace) {
	k := s.world()
	image := crashImageAfter(s, crashEmptyImage(s, 1), r.start)
	for _, answer := range crashAnswers() {
		if answer.of != r.ops[len(r.ops)-1].kind {
			continue
		}
		l := crashLeftover{crashStoppedWriter{setup: s, start: crashAfter(r.start), ops: r.ops}, answer}
		name := fmt.Sprintf("%s/%s behind %s", s.name, answer.name, r.name)
		trace, err := l.run(image)
		require.NoError(t, err, name)
		oracle := crashReaderOracle{newCrashOracle(crashProgram{setup: s, start: l.start, ops: r.ops}, k.extra[:30], &crashBench{})}
		out = append(out, mutantTrace{name: name, trace: trace,
			suite: crashtest.Suite{Model: s.model, Oracle: oracle, Bound: crashTinyOr(mutantBound)}})
	}
	return out
}

// crashLeftovers are operations whose slot a killed process left: in a segment of the
// directory, and in an overflow segment.
func crashLeftovers(k crashWorld) []crashReader {
	chained := crashPuts(append(append([][]byte{}, k.same[:k.window]...), k.a)...)
	return append(crashReaders(k)[:2],
		crashReader{"chained update", chained, []crashOp{{kind: crashPut, key: k.a, value: []byte("read0000")}}},
		crashReader{"chained delete", chained, crashDeletes(k.a)})
}

// TestWriterMakesDurableWhatItAnswers: a call that changes nothing because of what a
// killed process stored, and did not make durable, says so when it is durable: the
// session has drained it before it served. Without that, a power loss takes back what the
// caller was told.
func TestWriterMakesDurableWhatItAnswers(t *testing.T) {
	setups := []crashSetup{crashX86, crashInline, crashARM, crashInlineARM}
	if crashTiny() {
		setups = setups[:2]
	}
	for _, s := range setups {
		leftovers := crashLeftovers(s.world())
		if s.inline {
			leftovers = leftovers[:2]
		}
		for _, r := range leftovers {
			for _, w := range crashLeftoverTraces(t, s, r) {
				figures, err := w.suite.Crash(w.trace)
				require.NoError(t, err, w.name)
				require.Positive(t, figures.Images, w.name)
				t.Log(w.name, figures)
				drain := w.drainOfLeftover(s.geometry(1).Regions().Arena)
				require.Positive(t, drain, "%s: nothing drains what was left", w.name)
				require.True(t, crashKillsMutantOf(&w, drain), "%s: that it is not drained is found out", w.name)
			}
		}
	}
}

// drainOfLeftover finds the write-back of the slot that was left, before the session serves.
func (w *mutantTrace) drainOfLeftover(arena uint64) int {
	return slices.IndexFunc(w.trace.Events, func(e crashtest.Event) bool {
		return e.Kind == crashtest.WriteBack && strings.Contains(e.Site, "recovery.Begin:") && e.Off >= arena
	})
}
