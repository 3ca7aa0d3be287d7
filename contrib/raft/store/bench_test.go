package store_test

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	raftbench "github.com/hashicorp/raft/bench"
	"github.com/stretchr/testify/require"

	"pmemtable/contrib/raft/store"
)

// BenchmarkStores runs raft's own benchmarks of stores (github.com/hashicorp/raft's
// package bench) on this one and on raft-boltdb's. (The module's program bench
// measures what the README says.)
func BenchmarkStores(b *testing.B) {
	type both interface {
		raft.LogStore
		raft.StableStore
		Close() error
	}
	stores := []struct {
		name string
		open func(path string) (both, error)
	}{
		{"pmemtable", func(path string) (both, error) { return store.Open(path, nil) }},
		{"boltdb", func(path string) (both, error) { return raftboltdb.NewBoltStore(path) }},
	}
	onLog := func(fn func(*testing.B, raft.LogStore)) func(*testing.B, both) {
		return func(b *testing.B, s both) { fn(b, s) }
	}
	onStable := func(fn func(*testing.B, raft.StableStore)) func(*testing.B, both) {
		return func(b *testing.B, s both) { fn(b, s) }
	}
	for _, bench := range []struct {
		name string
		run  func(*testing.B, both)
	}{
		{"FirstIndex", onLog(raftbench.FirstIndex)},
		{"LastIndex", onLog(raftbench.LastIndex)},
		{"GetLog", onLog(raftbench.GetLog)},
		{"StoreLog", onLog(raftbench.StoreLog)},
		{"StoreLogs", onLog(raftbench.StoreLogs)},
		{"DeleteRange", onLog(raftbench.DeleteRange)},
		{"Set", onStable(raftbench.Set)},
		{"Get", onStable(raftbench.Get)},
		{"SetUint64", onStable(raftbench.SetUint64)},
		{"GetUint64", onStable(raftbench.GetUint64)},
	} {
		for _, s := range stores {
			b.Run(bench.name+"/"+s.name, func(b *testing.B) {
				log, err := s.open(filepath.Join(b.TempDir(), "raft"))
				require.NoError(b, err)
				bench.run(b, log)
				b.StopTimer()
				require.NoError(b, log.Close())
			})
		}
	}
}
