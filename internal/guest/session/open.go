package session

import (
	"fmt"
	"path/filepath"

	"pmemtable/internal/guest/history"
	"pmemtable/pmem"
	"pmemtable/table"
)

// Opened is a table that was opened and looked through.
type Opened struct {
	Table *table.Table
	Found []history.State
	// Text says how the open went.
	Text string
}

// Open opens a session's table, creates it if it is not there, checks it whole and
// reads everything in it. Whatever was never written, is damaged or mixed is an
// error.
func Open(cfg Config, s Spec) (*Opened, error) {
	o := &table.Options{}
	durability := s.Durability
	if cfg.Lie {
		durability = "onsync"
	}
	var err error
	if o.Durability, err = table.ParseDurability(durability); err != nil {
		return nil, err
	}
	po := pmem.Options{Geometry: pmem.Geometry{Stripes: 4}}
	if s.Small {
		po.Geometry = pmem.Geometry{Stripes: 2, ChunkBytes: 8192, SegmentBytes: 1024, IntentBytes: 4096}
	}
	pool, err := pmem.Open(filepath.Join(cfg.Dir, s.Name+".pmt"), po)
	if err != nil {
		return nil, err
	}
	t, err := table.OpenPool(pool, o)
	if err != nil {
		return nil, err
	}
	opened := &Opened{Table: t}
	if err := opened.look(cfg); err != nil {
		return nil, fmt.Errorf("%s (opened from %s): %w", s.Name, t.Stats().OpenedFrom, err)
	}
	return opened, nil
}

func (o *Opened) look(cfg Config) error {
	report, err := o.Table.Check()
	if err != nil {
		for _, p := range report.Problems[:min(5, len(report.Problems))] {
			err = fmt.Errorf("%w; %s", err, p)
		}
		return err
	}
	o.Found = make([]history.State, cfg.Writers)
	for i := range o.Found {
		o.Found[i] = history.State{}
	}
	n := 0
	for k, v := range o.Table.All() {
		writer, key, err := history.ParseKey(k)
		if err != nil {
			return err
		}
		if writer >= cfg.Writers {
			return fmt.Errorf("key %q was never written", k)
		}
		stamp, err := history.ParseValue(cfg.Seed, writer, key, v)
		if err != nil {
			return err
		}
		if _, twice := o.Found[writer][key]; twice {
			return fmt.Errorf("key %q is there twice", k)
		}
		o.Found[writer][key] = stamp
		n++
	}
	if err := o.Table.Err(); err != nil {
		return err
	}
	if have := o.Table.Len(); have != n || report.Entries != n {
		return fmt.Errorf("%d entries found, %d counted, %d checked", n, have, report.Entries)
	}
	s := o.Table.Stats()
	if s.Damage != "" {
		return fmt.Errorf("damage: %s", s.Damage)
	}
	o.Text = fmt.Sprintf("medium %v forced %v flush %s durability %s entries %d file %d; opened from %s",
		s.Medium, s.Forced, s.FlushMethod, s.Durability, n, s.FileSizeBytes, s.OpenedFrom)
	return nil
}
