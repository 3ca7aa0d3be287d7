package table

import "pmemtable/recovery"

// MakeRoom frees all that can be freed.
func (t *Table) MakeRoom() { t.makeRoom() }

// Die ends a table as a kill would, and gives its pool's lock and background work
// up. No call may be under way.
func (t *Table) Die() {
	t.DieHeld()
	_ = t.pool.Close()
}

// Abandon is Die for a table with a call under way that will never return.
func (t *Table) Abandon() {
	t.cancel()
	_ = t.pool.Close()
}

// WorkingRoots are the roots that writers use. No write may be under way.
func (t *Table) WorkingRoots() recovery.Roots {
	r := recovery.Roots{Stripes: make([]uint64, len(t.stripes)), Metadata: t.pool.Load(t.metadataAt.Load())}
	for i := range r.Stripes {
		r.Stripes[i] = t.pool.Load(t.rootAt(i))
	}
	return r
}
