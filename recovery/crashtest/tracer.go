package crashtest

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"pmemtable/pmem"
)

// Kind is the kind of an Event.
type Kind uint8

// The kinds of events.
const (
	Store     Kind = iota // an aligned word
	Copy                  // bytes
	WriteBack             // of the lines of a range
	Drain                 // of the goroutine's write-backs
	SyncBegin             // of the pages of a range, or of the whole medium
	SyncEnd
	Begin // of an operation
	Ack   // of an operation: its caller knows that it is done
)

// String names the kind.
func (k Kind) String() string {
	return [...]string{"store", "copy", "write back", "drain", "sync begins", "sync ends", "begin", "acknowledge"}[k]
}

// Event is an entry of a log.
type Event struct {
	Kind      Kind
	Goroutine uint64
	Off       uint64
	Bytes     int    // 0 for a sync of the whole medium
	Word      uint64 // of a Store
	Data      []byte // of a Copy
	Op        int    // of Begin and Ack; pairs SyncBegin with SyncEnd
	Failed    bool   // of SyncEnd
	Site      string // who asked for it, when Tracer.Sites is set
}

// String says it in a few words.
func (e Event) String() string {
	var what string
	switch e.Kind {
	case Begin, Ack:
		what = fmt.Sprintf("%v %d", e.Kind, e.Op)
	case Store, Copy, WriteBack:
		what = fmt.Sprintf("%v %d bytes at %#x", e.Kind, e.Bytes, e.Off)
	default:
		what = e.Kind.String()
	}
	if e.Site != "" {
		what += " by " + e.Site
	}
	return what
}

// Tracer is a pmem.Hook that performs every store under a lock of its own and
// logs it, so that the order of the log is the order of memory. Its methods may be
// called from many goroutines. Make one with NewTracer or Trace.Resume.
type Tracer struct {
	// Sites makes events name the function that asked for them. Set it before use.
	Sites bool
	// Anonymous leaves out which goroutine an event is of; each Persist counts as one by
	// itself. Crashes loses nothing by that, since a Persist drains what it wrote back,
	// but Lint and Mutants do. To find out takes longer than all else here. Set it before
	// use.
	Anonymous bool

	mu     sync.Mutex
	trace  Trace
	syncs  int
	atGate map[int]func()

	persists atomic.Uint64 // that were anonymous
}

// NewTracer returns a tracer of a medium that holds image, all of it durable.
func NewTracer(image []byte) *Tracer {
	return &Tracer{trace: Trace{initial: bytes.Clone(image)}}
}

// Trace returns the log so far. It does not change any more.
func (t *Tracer) Trace() *Trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.trace
	c.Events = c.Events[:len(c.Events):len(c.Events)]
	return &c
}

// Image returns what the medium holds now: the initial image with every logged
// store. A Workload begins with it.
func (t *Tracer) Image() []byte { return t.Trace().Full() }

// Begin logs that operation op begins. Operations are numbered by the workload,
// each number once.
func (t *Tracer) Begin(op int) { t.log(Event{Kind: Begin, Op: op}) }

// Ack logs that operation op is done and its caller knows.
func (t *Tracer) Ack(op int) { t.log(Event{Kind: Ack, Op: op}) }

// Gate makes fn run after the event with the given number was logged and before
// the call that caused it goes on: to stop a goroutine in the middle of something.
func (t *Tracer) Gate(event int, fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.atGate == nil {
		t.atGate = map[int]func(){}
	}
	t.atGate[event] = fn
}

// Store implements pmem.Hook.
func (t *Tracer) Store(off, word uint64, apply func()) {
	t.perform(Event{Kind: Store, Off: off, Bytes: 8, Word: word}, apply)
}

// Copy implements pmem.Hook.
func (t *Tracer) Copy(off uint64, src []byte, apply func()) {
	t.perform(Event{Kind: Copy, Off: off, Bytes: len(src), Data: src}, apply)
}

// WriteBack implements pmem.Hook.
func (t *Tracer) WriteBack(off uint64, sizeBytes int) {
	t.log(Event{Kind: WriteBack, Off: off, Bytes: sizeBytes})
}

// Drain implements pmem.Hook.
func (t *Tracer) Drain() { t.log(Event{Kind: Drain}) }

// Persist implements pmem.PersistHook.
func (t *Tracer) Persist(ranges []pmem.Range) {
	var owner uint64
	if t.Anonymous {
		owner = anonymous | t.persists.Add(1)
	} else {
		owner = goroutine()
	}
	for _, r := range ranges {
		t.logOf(owner, Event{Kind: WriteBack, Off: r.Offset, Bytes: r.Bytes})
	}
	t.logOf(owner, Event{Kind: Drain})
}

// anonymous is above the number of any goroutine.
const anonymous = 1 << 62

// Sync implements pmem.Hook. Other goroutines may store while it runs.
func (t *Tracer) Sync(apply func() error) error { return t.SyncRange(0, 0, apply) }

// SyncRange implements pmem.RangeHook.
func (t *Tracer) SyncRange(off uint64, sizeBytes int, apply func() error) error {
	t.mu.Lock()
	t.syncs++
	n := t.syncs
	t.mu.Unlock()
	t.log(Event{Kind: SyncBegin, Op: n, Off: off, Bytes: sizeBytes})
	err := apply()
	t.log(Event{Kind: SyncEnd, Op: n, Off: off, Bytes: sizeBytes, Failed: err != nil})
	return err
}

func (t *Tracer) log(e Event) { t.perform(e, func() {}) }

func (t *Tracer) logOf(owner uint64, e Event) { t.performOf(owner, e, func() {}) }

// perform logs an event of the calling goroutine.
func (t *Tracer) perform(e Event, apply func()) {
	owner := uint64(0)
	if !t.Anonymous || e.Kind == WriteBack || e.Kind == Drain { // a pair of them needs an owner
		owner = goroutine()
	}
	t.performOf(owner, e, apply)
}

func (t *Tracer) performOf(owner uint64, e Event, apply func()) {
	e.Goroutine = owner
	if t.Sites && (e.Kind <= SyncEnd) {
		e.Site = site()
	}
	t.mu.Lock()
	apply()
	n := len(t.trace.Events)
	t.trace.Events = append(t.trace.Events, e)
	gate := t.atGate[n]
	t.mu.Unlock()
	if gate != nil {
		gate()
	}
}

// goroutine is the number of the calling goroutine, which only the text of a stack
// trace tells.
func goroutine() uint64 {
	var buf [32]byte
	text := buf[:runtime.Stack(buf[:], false)]
	text = bytes.TrimPrefix(text, []byte("goroutine "))
	if i := bytes.IndexByte(text, ' '); i >= 0 {
		text = text[:i]
	}
	n, _ := strconv.ParseUint(string(text), 10, 64)
	return n
}

// site names the first function outside of this package and of the methods
// through which stores go, and its line.
func site() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if !strings.Contains(f.Function, "/crashtest.") && !strings.HasSuffix(f.File, "pmem/store.go") {
			return shortName(f.Function) + ":" + strconv.Itoa(f.Line)
		}
		if !more {
			return ""
		}
	}
}

// shortName drops the path of a function's package.
func shortName(function string) string { return function[strings.LastIndexByte(function, '/')+1:] }
