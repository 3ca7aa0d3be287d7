package table_test

import (
	"testing"

	"golang.org/x/sys/unix"
)

// needMemory skips the test where the machine has less to spare.
func needMemory(t *testing.T, sizeBytes uint64) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil || (uint64(info.Freeram)+uint64(info.Bufferram))*uint64(info.Unit) < sizeBytes {
		t.Skipf("less than %d bytes of memory are free", sizeBytes)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &st); err != nil || st.Bavail*uint64(st.Bsize) < sizeBytes {
		t.Skipf("less than %d bytes of disk are free", sizeBytes)
	}
}
