//go:build unix

package table_test

import (
	"syscall"
	"time"
)

// processorTime is what this process has used of all processors, in the kernel too.
// Unlike the clock it does not grow while other programs have them.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
