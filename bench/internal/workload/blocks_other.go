//go:build !unix

package workload

import "io/fs"

// blocksOf is the file's size, where blocks are not told.
func blocksOf(info fs.FileInfo) int64 { return info.Size() }
