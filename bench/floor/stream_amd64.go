//go:build !purego

package floor

import (
	"pmemtable/amd64"
	"pmemtable/flush"
	"pmemtable/pmem"
)

// streams tells whether there is a recipe with non-temporal stores. Package flush
// streams only what is longer than a record, so this one goes below it.
func streams() bool { return flush.Method() == "clwb" }

// streamed starts the load of the word's line, stores a record past the cache and
// drains, then stores the word, writes it back and drains.
func (f *Floor) streamed(ops int, x uint64) uint64 {
	sum := uint64(0)
	for i := range ops {
		x = mix(x + uint64(i))
		f.source[0] = byte(x)
		word := f.index + pick(x, f.lines)*lineBytes
		sum += f.pool.Load(word) // nobody waits for it
		at := f.nextRecord()
		amd64.StreamCLWB(f.pool.Bytes(at, recordBytes), f.source[:recordBytes])
		f.pool.Store(word, x)
		f.pool.Persist(pmem.Range{Offset: word, Bytes: wordBytes})
	}
	return x + sum
}
