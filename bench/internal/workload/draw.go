package workload

import "pmemtable/bench/internal/data"

// draw draws what the g-th goroutine does in its share of the operations.
func (k *worker) draw(g, share int) {
	w := &k.work
	seed := w.Seed*1000 + uint64(g)
	switch w.Kind {
	case Mix, Latest, Modify:
		k.reads = make([]bool, share)
		for i, p := range data.Take(data.Uniform(100, seed+1), share) {
			k.reads[i] = int(p) < w.ReadPercent
		}
	}
	switch {
	case w.Kind == Load:
		k.picks = data.Take(inOrder(), share)
	case w.Kind == Delete:
		order := data.Permuted(w.N, w.Seed)
		for range w.Deleted + g*share {
			order() // somebody else's
		}
		k.picks = data.Take(order, share)
	case w.Kind == Latest:
		k.picks = data.Take(latest(w, k.reads, w.NewFrom+g*share, seed), share)
	case w.Zipf != 0:
		k.picks = data.Take(data.Zipf(w.N, w.Zipf, seed), share)
	default:
		k.picks = data.Take(data.Uniform(w.N, seed), share)
	}
}

// latest puts new keys and gets those that were put last: first this goroutine's own,
// then the last that were loaded. What another goroutine puts meanwhile it does not get,
// so that no get depends on who is faster.
func latest(w *Work, reads []bool, newFrom int, seed uint64) data.Order {
	ranks := data.Ranks(w.N, w.Zipf, seed)
	i, put := -1, 0
	return func() int {
		if i++; !reads[i] {
			put++
			return newFrom + put - 1
		}
		back := ranks()
		if back < put {
			return newFrom + put - 1 - back
		}
		return w.N - 1 - (back - put)
	}
}

func inOrder() data.Order {
	i := -1
	return func() int { i++; return i }
}
