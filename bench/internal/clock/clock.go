// Package clock measures time, elapsed or of the processor. On a machine that
// does other things meanwhile, the latter leaves out the waiting for a processor;
// the disturbance of caches it cannot leave out.
package clock

import "time"

// Stopwatch measures both.
type Stopwatch struct {
	began time.Time
	cpu   time.Duration
}

// Start starts it.
func Start() Stopwatch { return Stopwatch{time.Now(), CPU()} }

// Stop returns what passed.
func (s Stopwatch) Stop() (elapsed, cpu time.Duration) {
	elapsed = time.Since(s.began)
	return elapsed, CPU() - s.cpu
}
