package crashtest

import (
	"bytes"
	"sync"

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
}

// NewMemory returns a medium that holds a copy of image.
func NewMemory(image []byte, hook pmem.Hook) *Memory {
	return &Memory{hook: hook, mem: bytes.Clone(image)}
}

// Image returns a copy of the medium.
func (m *Memory) Image() []byte { return m.Bytes(0, len(m.mem)) }

// Load implements Medium.
func (m *Memory) Load(off uint64) uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return getWord(m.mem, off)
}

// Bytes implements Medium; it returns a copy.
func (m *Memory) Bytes(off uint64, n int) []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
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
	for _, r := range ranges {
		m.hook.WriteBack(r.Offset, r.Bytes)
	}
	m.hook.Drain()
}

// Sync implements Medium.
func (m *Memory) Sync() error { return m.hook.Sync(func() error { return nil }) }
