//go:build windows || smallmap

package pmem

// defaultMaxSizeBytes where a mapping costs more than address space: Windows
// makes a file as long as its mapping, and QEMU 7.2 in user mode keeps some 40
// bytes for each page that was ever mapped.
const defaultMaxSizeBytes = 1 << 30
