package pmem

import "pmemtable/flush"

// Fence orders all loads and stores before it with all after it, for every
// observer.
func Fence() { flush.Fence() }
