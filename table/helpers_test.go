package table_test

import "pmemtable/flush"

// canFlush tells whether this build can pass a file for persistent memory.
func canFlush() bool { return flush.Available() }
