//go:build !unix

package table_test

import "time"

var processBegan = time.Now()

// processorTime is the clock where the system is not asked for better.
func processorTime() time.Duration { return time.Since(processBegan) }
