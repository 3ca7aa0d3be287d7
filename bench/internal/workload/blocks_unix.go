//go:build unix

package workload

import (
	"io/fs"
	"syscall"
)

// blocksOf is what a file's blocks take.
func blocksOf(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
