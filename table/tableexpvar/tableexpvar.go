// Package tableexpvar publishes what a table does by package expvar, as JSON under
// /debug/vars. It is apart from package table because importing expvar registers an
// HTTP handler.
package tableexpvar

import (
	"expvar"
	"fmt"
	"sync"
	"weak"

	"pmemtable/table"
)

// variable is an expvar.Var whose table may be replaced by one that was opened later:
// expvar has no way to withdraw a name.
type variable struct {
	mu    sync.Mutex
	table weak.Pointer[table.Table]
}

var (
	mu        sync.Mutex // guards published
	published = map[string]*variable{}
)

// Publish makes t.Stats() the variable name: an object with the fields of table.Stats,
// durations in nanoseconds. A table that was published under the name before is
// replaced. It does not keep t in memory: once the program has let go of the table,
// the variable is null. An error if something else has the name. Safe for concurrent
// use.
func Publish(name string, t *table.Table) error {
	mu.Lock()
	defer mu.Unlock()
	v := published[name]
	if v == nil {
		if expvar.Get(name) != nil {
			return fmt.Errorf("expvar: %q is the name of another variable", name)
		}
		v = new(variable)
		published[name] = v
		expvar.Publish(name, expvar.Func(v.stats))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.table = weak.Make(t)
	return nil
}

// stats is nil, which is null in JSON, for a table that is gone.
func (v *variable) stats() any {
	v.mu.Lock()
	t := v.table.Value()
	v.mu.Unlock()
	if t == nil {
		return nil
	}
	return t.Stats()
}
