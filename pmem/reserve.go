//go:build !windows && !smallmap

package pmem

// defaultMaxSizeBytes is address space, of which 64-bit systems have plenty.
const defaultMaxSizeBytes = 64 << 30
