package workload

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency of the operations of a workload, in nanoseconds.
type Latency struct {
	P50, P90, P99, P999, P9999, Max int64
	// ControlMax and Over2ms are what a goroutine saw that does nothing but sleep
	// for a moment and look how late it wakes: its longest lateness, and how often
	// that was over 2 ms. Stalls are operations over 2 ms.
	ControlMax          int64
	ControlOver, Stalls int64
	Curve               [][2]float64 // percentile, ns
	Windows             []Window     // of the first goroutine, in order of time
}

// Window is the worst of a piece of the run.
type Window struct{ AtSeconds, MedianNs, MaxNs float64 }

const (
	maxLatency = int64(60 * time.Second)
	stall      = int64(2 * time.Millisecond)
	window     = 20 * time.Millisecond
)

// recorder collects the latencies of one goroutine.
type recorder struct {
	all, part *hdrhistogram.Histogram
	began     time.Time
	next      time.Duration
	stalls    int64
	windows   []Window
}

func newRecorder() *recorder {
	return &recorder{
		all:  hdrhistogram.New(1, maxLatency, 3),
		part: hdrhistogram.New(1, maxLatency, 2),
		next: window,
	}
}

// add records an operation that began then and ends now.
func (r *recorder) add(began time.Time) {
	now := time.Now()
	if r.began.IsZero() {
		r.began = began
	}
	ns := min(now.Sub(began).Nanoseconds(), maxLatency)
	_ = r.all.RecordValue(ns)
	_ = r.part.RecordValue(ns)
	if ns > stall {
		r.stalls++
	}
	if at := now.Sub(r.began); at > r.next {
		r.windows = append(r.windows, Window{at.Seconds(), float64(r.part.ValueAtQuantile(50)), float64(r.part.Max())})
		r.part.Reset()
		r.next = at + window
	}
}

// summarize merges the workers' recorders.
func summarize(workers []*worker, c controlled) *Latency {
	all := hdrhistogram.New(1, maxLatency, 3)
	l := &Latency{ControlMax: c.worst, ControlOver: c.over, Windows: workers[0].record.windows}
	for _, k := range workers {
		all.Merge(k.record.all)
		l.Stalls += k.record.stalls
	}
	l.P50, l.P90, l.P99 = all.ValueAtQuantile(50), all.ValueAtQuantile(90), all.ValueAtQuantile(99)
	l.P999, l.P9999, l.Max = all.ValueAtQuantile(99.9), all.ValueAtQuantile(99.99), all.Max()
	for _, q := range []float64{1, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999, 100} {
		l.Curve = append(l.Curve, [2]float64{q, float64(all.ValueAtQuantile(q))})
	}
	return l
}

// control is the goroutine that sees the hiccups of the machine.
type control struct {
	done   atomic.Bool
	group  sync.WaitGroup
	result controlled
}

type controlled struct{ worst, over int64 }

func startControl() *control {
	c := &control{}
	c.group.Go(func() {
		const nap = 200 * time.Microsecond
		for !c.done.Load() {
			began := time.Now()
			time.Sleep(nap)
			late := (time.Since(began) - nap).Nanoseconds()
			c.result.worst = max(c.result.worst, late)
			if late > stall {
				c.result.over++
			}
		}
	})
	return c
}

func (c *control) stop() controlled {
	c.done.Store(true)
	c.group.Wait()
	return c.result
}
