package stores

import (
	"fmt"
	"path/filepath"
	"time"

	"pmemtable/pmem"
	"pmemtable/table"
)

func init() { register("pmemtable", "", true, openTable) }

// TableFile is the name of pmemtable's file in its directory.
const TableFile = "bench.pmt"

type tableStore struct{ *table.Table }

func openTable(c Config) (Store, error) {
	media := pmem.Auto
	if c.Media != "" {
		var err error
		if media, err = pmem.ParseMedia(c.Media); err != nil {
			return nil, err
		}
	}
	opts := table.Options{Media: media, TrustMedia: c.Trust, SegmentSize: c.SegmentBytes}
	switch c.Sync {
	case Always:
		opts.Durability = table.Always
	case Interval:
		every := c.IntervalOf
		if every == 0 {
			every = time.Second
		}
		opts.Durability = table.Interval(every)
	case Never:
		opts.Durability = table.OnSync
	default:
		return nil, fmt.Errorf("durability %q", c.Sync)
	}
	t, err := table.Open(filepath.Join(c.Dir, TableFile), &opts)
	if err != nil {
		return nil, err
	}
	return tableStore{t}, nil
}

func (s tableStore) Get(dst, key []byte) ([]byte, error) {
	value, err := s.AppendGet(dst, key)
	if err == table.ErrNotFound {
		err = ErrNotFound
	}
	return value, err
}

func (s tableStore) PutBulk(keys, values [][]byte) error { return s.PutMany(keys, values) }

func (s tableStore) Snapshot() (func() error, error) {
	snap, err := s.Table.Snapshot()
	if err != nil {
		return nil, err
	}
	return snap.Close, nil
}

func (s tableStore) Figures() map[string]float64 {
	st := s.Stats()
	return map[string]float64{
		"checkpoints": float64(st.Checkpoints), "writes": float64(st.Writes),
		"copies": float64(st.Copies), "splits": float64(st.Splits), "chains": float64(st.Chains),
		"conflicts": float64(st.Conflicts), "used": float64(st.UsedBytes),
		"marked": float64(st.MarkedEntries), "markns": float64(st.MarkDuration.Nanoseconds()),
	}
}
