// Package host finds out what the machine and a file system offer a table, as far
// as the operating system tells.
package host

import (
	"os"
	"runtime"
)

// Facts are what the operating system tells. What it does not tell is empty.
type Facts struct {
	System          string `json:"system"` // linux/amd64
	Kernel          string `json:"kernel,omitempty"`
	Processors      int    `json:"processors"`
	PageSizeBytes   int    `json:"page_size_bytes"`
	FileSystem      string `json:"file_system,omitempty"`
	Mount           string `json:"mount,omitempty"`         // where it is mounted
	MountOptions    string `json:"mount_options,omitempty"` // of the mount and of the file system
	FreeBytes       int64  `json:"free_bytes,omitempty"`
	HugePages       string `json:"transparent_huge_pages,omitempty"`       // the kernel's policy
	SharedHugePages string `json:"transparent_huge_pages_tmpfs,omitempty"` // that for tmpfs
}

// Look gathers the facts about the file system that holds path.
func Look(path string) Facts {
	f := Facts{System: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(), PageSizeBytes: os.Getpagesize()}
	f.look(path)
	return f
}
