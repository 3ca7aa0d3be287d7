package table

import (
	"bytes"
	"runtime"
	"runtime/debug"

	"pmemtable/internal/layout"
)

// Metadata returns a copy of the user's metadata record, which a Batch sets in
// the same commit as its entries; empty if none was set.
func (t *Table) Metadata() (meta []byte, err error) {
	defer runtime.KeepAlive(t)
	defer t.caught(debug.SetPanicOnFault(true), &err)
	for n := 0; ; n++ {
		if t.closing.Load() {
			return nil, ErrClosed
		}
		version := t.version(0) // the record is retired as one of stripe 0
		roots := t.roots.Load()
		meta, err := t.readMetadata(t.loadMetadataWord())
		if tail := t.tailNow(); tail != nil && tail.hasMeta {
			meta, err = bytes.Clone(tail.meta), nil
		}
		if t.unchanged(0, version) && t.roots.Load() == roots {
			return meta, err
		}
		if t.pool.ReadOnly() && n > maxForeignTries {
			return nil, errBusy
		}
	}
}

// loadMetadataWord reads the metadata word beside the roots in use.
func (t *Table) loadMetadataWord() uint64 {
	at := t.metadataAt.Load()
	return t.overlaid(at, t.pool.Load(at))
}

// readMetadata copies the record that a metadata word refers to.
func (t *Table) readMetadata(word uint64) ([]byte, error) {
	if word == 0 {
		return nil, nil
	}
	if head := t.pool.Speculative(word, layout.MaxRecordHeaderBytes); head != nil {
		shape := layout.DecodeRecord(head)
		record := t.pool.Speculative(word, shape.Size())
		if record != nil && shape.ValueSize <= layout.MaxValueBytes && layout.RecordIntact(record) {
			return bytes.Clone(record[shape.HeaderSize+shape.KeySize:]), nil
		}
	}
	return nil, t.pool.Corrupt("metadata", word, "it is no intact record")
}
