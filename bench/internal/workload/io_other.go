//go:build !linux

package workload

// ioCounters are bytes since some moment.
type ioCounters struct{ written, device int64 }

func readIO(string) ioCounters { return ioCounters{} }

func residentBytes() (all, anonymous float64) { return 0, 0 }
