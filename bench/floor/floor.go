// Package floor measures what the memory below a table allows: the fewest and
// plainest accesses with which any hash table of that size could answer, on a
// mapping made in the same way, in the same run. A table's figures are ratios to
// these.
//
// The mapping is divided as a table's is: an index of 12 bytes an entry, or as many
// as a table without records has, and records of 128. So "one dependent read" is a bucket line's cost, and "two" that
// of a line and then the record that it names.
package floor

import (
	"errors"
	"math/bits"
	"path/filepath"

	"pmemtable/bench/internal/clock"
	"pmemtable/flush"
	"pmemtable/pmem"
)

const (
	recordBytes = 128
	lineBytes   = 64
	wordBytes   = 8
)

// The figures, in nanoseconds an operation.
const (
	Line        = "one dependent read (index)"
	Record      = "one dependent read (records)"
	LineRecord  = "two dependent reads (index, record)"
	Independent = "one independent read (records)"
	Cached      = "record and word persisted (cached stores, write back)"
	Again       = "the same, and the word stored once more (a pending bit cleared)"
	Streamed    = "record and word persisted (non-temporal record, word's line loaded meanwhile)"
	Replaced    = "line read, record it names read, then record and word persisted"
)

// Names in the order in which they are printed.
var Names = []string{Line, Record, LineRecord, Independent, Cached, Again, Streamed, Replaced}

// Floor is a mapping to measure on.
type Floor struct {
	pool           *pmem.Pool
	index, records uint64 // offsets
	lines, count   uint64 // how many of each
	source         [recordBytes]byte
	seed           uint64
	next           uint64 // record to write
	// ByCPU measures the processor's time, not what elapses.
	ByCPU bool
}

// IndexBytes is how much index an entry of a table with records has.
const IndexBytes = 12

// Open makes a pool in dir, of the size that a table of so many entries has with so
// many bytes of index for each, and touches all of it.
func Open(dir string, entries, indexBytes int) (*Floor, error) {
	media := pmem.DAX
	if !flush.Available() {
		media = pmem.Tmpfs
	}
	p, err := pmem.Open(filepath.Join(dir, "floor.pool"), pmem.Options{Media: media, MustCreate: true})
	if err != nil {
		return nil, err
	}
	p.GiveUpSweep() // there is nothing to recover
	f := &Floor{pool: p, seed: 1}
	f.lines = uint64(entries)*uint64(indexBytes)/lineBytes + 1
	f.count = uint64(entries) + 1
	if f.index, err = f.region(f.lines * lineBytes); err == nil {
		f.records, err = f.region(f.count * recordBytes)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return f, nil
}

// region makes the pool larger by so many bytes, and stores to each line of them.
// They are taken in pieces that follow each other; what lies between two pieces is
// the pool's own, which this program has no use for.
func (f *Floor) region(sizeBytes uint64) (first uint64, err error) {
	const piece = 64 << 10
	for end := uint64(0); first == 0 || end < first+sizeBytes; {
		at, err := f.pool.Alloc(piece, 0, pmem.Usual)
		if err != nil {
			return 0, err
		}
		if first == 0 {
			first = at
		}
		if at < end {
			return 0, errors.New("the pool's pieces do not follow each other")
		}
		end = at + piece
	}
	var line [lineBytes]byte
	for at := first; at < first+sizeBytes; at += lineBytes {
		for i := range line {
			line[i] = byte(at>>6)*31 + byte(i)
		}
		f.pool.Copy(at, line[:])
	}
	return first, nil
}

// Close gives the mapping back.
func (f *Floor) Close() error { return f.pool.Close() }

// mix scatters x, in the fewest cycles that do.
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	return x ^ x>>29
}

// pick maps a random x to [0, n).
func pick(x, n uint64) uint64 {
	hi, _ := bits.Mul64(x*0xbf58476d1ce4e5b9, n)
	return hi
}

// Measure measures all figures, with so many operations each.
func (f *Floor) Measure(ops int) map[string]float64 {
	out := map[string]float64{
		Line:        f.timed(ops, f.line),
		Record:      f.timed(ops, f.record),
		LineRecord:  f.timed(ops, f.lineRecord),
		Independent: f.timed(ops, f.independent),
	}
	if flush.Available() {
		out[Cached] = f.timed(ops, f.cached)
		out[Again] = f.timed(ops, f.again)
		out[Replaced] = f.timed(ops, f.replaced)
	}
	if streams() {
		out[Streamed] = f.timed(ops, f.streamed)
	}
	return out
}

func (f *Floor) timed(ops int, run func(ops int, seed uint64) uint64) float64 {
	f.seed++
	watch := clock.Start()
	f.seed += run(ops, f.seed) & 1
	took, cpu := watch.Stop()
	if f.ByCPU && cpu > 0 {
		took = cpu
	}
	return float64(took.Nanoseconds()) / float64(ops)
}

// Each address below depends on what was read before.

func (f *Floor) line(ops int, x uint64) uint64 {
	for i := range ops {
		x = mix(f.pool.Load(f.index+pick(x, f.lines)*lineBytes) + x + uint64(i))
	}
	return x
}

func (f *Floor) record(ops int, x uint64) uint64 {
	for i := range ops {
		x = mix(f.pool.Load(f.records+pick(x, f.count)*recordBytes) + x + uint64(i))
	}
	return x
}

func (f *Floor) lineRecord(ops int, x uint64) uint64 {
	for i := range ops {
		x = mix(f.pool.Load(f.index+pick(x, f.lines)*lineBytes) + x)
		x = mix(f.pool.Load(f.records+pick(x, f.count)*recordBytes) + x + uint64(i))
	}
	return x
}

// independent: no address depends on a read.
func (f *Floor) independent(ops int, x uint64) (sum uint64) {
	for range ops {
		x = x*6364136223846793005 + 1442695040888963407
		sum += f.pool.Load(f.records + pick(x, f.count)*recordBytes)
	}
	return sum
}

// nextRecord goes through the records in order, as an allocator does.
func (f *Floor) nextRecord() uint64 {
	at := f.records + f.next*recordBytes
	if f.next++; f.next == f.count {
		f.next = 0
	}
	return at
}

// cached writes a record, writes it back and drains, stores a word elsewhere,
// writes that back and drains.
func (f *Floor) cached(ops int, x uint64) uint64 { return f.write(ops, x, false) }

// again is cached, and a second store to the word, which is written back only with
// the next change of its line.
func (f *Floor) again(ops int, x uint64) uint64 { return f.write(ops, x, true) }

func (f *Floor) write(ops int, x uint64, twice bool) uint64 {
	for i := range ops {
		x = mix(x + uint64(i))
		f.persistRecord(x)
		word := f.index + pick(x, f.lines)*lineBytes
		f.pool.Store(word, x)
		f.pool.PersistWord(word)
		if twice {
			f.pool.Store(word, x&^1)
		}
	}
	return x
}

func (f *Floor) persistRecord(x uint64) {
	f.source[0] = byte(x)
	at := f.nextRecord()
	f.pool.Copy(at, f.source[:])
	f.pool.Persist(pmem.Range{Offset: at, Bytes: recordBytes})
}

// replaced is cached where a record lies already, the least of an overwrite by any
// table whose records lie out of line: it has to compare the key, so it reads the line
// and then the record that the line names. The next line's address depends on neither.
func (f *Floor) replaced(ops int, x uint64) uint64 {
	sum := uint64(0)
	for i := range ops {
		x = mix(x + uint64(i))
		word := f.index + pick(x, f.lines)*lineBytes
		named := mix(f.pool.Load(word) + x)
		sum += f.pool.Load(f.records + pick(named, f.count)*recordBytes)
		f.persistRecord(x)
		f.pool.Store(word, x)
		f.pool.PersistWord(word)
	}
	return x + sum
}
