package pmem

import (
	"time"

	"pmemtable/internal/layout"
)

// Counters are for people who watch a pool, from this process or another: no state.
// Nothing decides by them, so a crash may leave anything in their place, and their
// stores neither reach the Hook nor are ever made durable. These methods can store
// to counters only.

// CountStripe adds to a counter of a stripe. The caller holds the stripe's lock: it
// is a load and a store, without any synchronization. On a read-only pool it does
// nothing, as all that follow.
func (p *Pool) CountStripe(stripe int, c layout.CounterStripe, n uint64) {
	if uint(stripe) < uint(p.geometry.Stripes) && uint(c) < uint(layout.StripeCounters) && !p.readOnly {
		p.addOwned(p.regions.StripeCounter(stripe, c), n)
	}
}

// Count adds to a counter of the pool. Anybody may call it at any time.
func (p *Pool) Count(c layout.CounterTable, n uint64) {
	if !p.readOnly {
		p.addShared(p.regions.TableCounter(c), n)
	}
}

// SetCounter stores what is not counted but measured.
func (p *Pool) SetCounter(c layout.CounterTable, n uint64) {
	if !p.readOnly {
		p.storeCounter(p.regions.TableCounter(c), n)
	}
}

// CountLatency adds a duration to a latency. Anybody may call it at any time.
func (p *Pool) CountLatency(c layout.CounterTable, d time.Duration) {
	if p.readOnly {
		return
	}
	n := uint64(max(d, 0))
	p.addShared(p.regions.TableCounter(c+layout.LatencySum), n)
	p.addShared(p.regions.TableCounter(c+layout.LatencyBuckets+layout.CounterTable(layout.LatencyBucket(n))), 1)
	p.storeCounter(p.regions.TableCounter(c+layout.LatencyLast), n)
	p.raiseShared(p.regions.TableCounter(c+layout.LatencyLongest), n)
}

// StripeCounter reads a counter of a stripe.
func (p *Pool) StripeCounter(stripe int, c layout.CounterStripe) uint64 {
	return p.Load(p.regions.StripeCounter(stripe, c))
}

// Counter reads a counter of the pool.
func (p *Pool) Counter(c layout.CounterTable) uint64 { return p.Load(p.regions.TableCounter(c)) }

// Counted tells whether the counters are those of the session that the control page
// names: not while one begins, nor in a file that power loss left.
func (p *Pool) Counted() bool {
	generation := p.Counter(layout.CounterGeneration)
	return generation != 0 && generation == p.Load(p.regions.Control+layout.ControlGeneration)
}

// beginCounters sets all counters to 0, for a session that nobody uses yet. A reader
// of another process meanwhile sees that they are of no session.
func (p *Pool) beginCounters() {
	p.storeCounter(p.regions.TableCounter(layout.CounterGeneration), 0)
	for _, r := range p.geometry.CounterRanges() {
		for at := r[0]; at < r[0]+r[1]; at += layout.WordBytes {
			if p.Load(at) != 0 { // most are: a store is the dearer of the two
				p.storeCounter(at, 0)
			}
		}
	}
	p.storeCounter(p.regions.TableCounter(layout.CounterBegan), uint64(time.Now().UnixNano()))
	p.storeCounter(p.regions.TableCounter(layout.CounterGeneration), p.session.Generation)
}
