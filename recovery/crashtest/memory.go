package crashtest

import (
	"bytes"
	"sync"
	"sync/atomic"

	"pmemtable/pmem"
)

// Medium is what a structure stores to. *pmem.Pool is one, with a Hook when its
// stores are to be traced, and *Memory is one.
type Medium interface {
	// Load reads the aligned word at off.
	Load(off uint64) uint64
	// Bytes returns n bytes at off, which must not be changed.
	Bytes(off uint64, n int) []byte
	// Store stores an aligned word, atomically.
	Store(off, word uint64)
	// Copy stores bytes.
	Copy(off uint64, src []byte)
	// Persist writes the lines of the ranges back and drains.
	Persist(ranges ...pmem.Range)
	// Sync makes all stores durable on a medium that has no Persist.
	Sync() error
}

var _ Medium = (*pmem.Pool)(nil)

// Memory is a medium without a format: a slice whose stores go to a hook. It does
// not grow.
type Memory struct {
	hook pmem.Hook
	mu   sync.RWMutex
	mem  []byte
	read []uint64 // a bit for each line; changed atomically
}

// NewMemory returns a medium that holds a copy of image.
func NewMemory(image []byte, hook pmem.Hook) *Memory {
	return &Memory{hook: hook, mem: bytes.Clone(image), read: make([]uint64, len(image)/lineBytes/64+1)}
}

// Reads returns, for Crash.Read, a function that tells of which lines any byte has been
// read so far, of the stores that were made to the Memory itself too.
func (m *Memory) Reads() func(line uint64) bool {
	read := make([]uint64, len(m.read))
	for i := range read {
		read[i] = atomic.LoadUint64(&m.read[i])
	}
	return func(line uint64) bool {
		n := line / lineBytes
		return n/64 < uint64(len(read)) && read[n/64]>>(n%64)&1 != 0
	}
}

// note takes notice that n bytes at off are being read.
func (m *Memory) note(off uint64, n int) {
	for line := off / lineBytes; line*lineBytes < off+uint64(n); line++ {
		atomic.OrUint64(&m.read[line/64], 1<<(line%64))
	}
}

// Image returns a copy of the medium.
func (m *Memory) Image() []byte { return m.Bytes(0, len(m.mem)) }

// Load implements Medium.
func (m *Memory) Load(off uint64) uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	m.note(off, wordBytes)
	return getWord(m.mem, off)
}

// Bytes implements Medium; it returns a copy.
func (m *Memory) Bytes(off uint64, n int) []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	m.note(off, n)
	return bytes.Clone(m.mem[off : off+uint64(n)])
}

// Store implements Medium.
func (m *Memory) Store(off, word uint64) {
	m.hook.Store(off, word, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		putWord(m.mem, off, word)
	})
}

// Copy implements Medium.
func (m *Memory) Copy(off uint64, src []byte) {
	src = bytes.Clone(src)
	m.hook.Copy(off, src, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		copy(m.mem[off:], src)
	})
}

// Persist implements Medium.
func (m *Memory) Persist(ranges ...pmem.Range) {
	if h, ok := m.hook.(pmem.PersistHook); ok {
		h.Persist(ranges)
		return
	}
	for _, r := range ranges {
		m.hook.WriteBack(r.Offset, r.Bytes)
	}
	m.hook.Drain()
}

// Sync implements Medium.
func (m *Memory) Sync() error { return m.hook.Sync(func() error { return nil }) }
