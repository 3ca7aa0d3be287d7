package pmem_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pmemtable/pmem"
)

// A pool is opened; what it is to hold, and which root of it is the truth, is for package
// recovery to say, before anything is allocated.
func ExampleOpen() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "own.pool")
	p, err := pmem.Open(path, pmem.Options{Media: pmem.PageCache, MaxSizeBytes: 64 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = pmem.Open(path, pmem.Options{})
	fmt.Println(p.Media(), errors.Is(err, pmem.ErrLocked))
	fmt.Println(p.Close())
	// Output:
	// page cache true
	// <nil>
}

// A pool on the Go heap is for tests: its image is what a crash would leave.
func ExampleNewHeap() {
	medium := pmem.NewHeap(nil, 64<<20)
	_, err := pmem.OpenHeap(medium, pmem.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = pmem.OpenHeap(medium, pmem.Options{})
	fmt.Println(errors.Is(err, pmem.ErrLocked))
	medium.Abandon() // the process dies

	after, err := pmem.OpenHeap(pmem.NewHeap(medium.Image(), 64<<20), pmem.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(after.Close())
	// Output:
	// true
	// <nil>
}

func ExampleParseMedia() {
	m, err := pmem.ParseMedia("tmpfs")
	fmt.Println(m == pmem.Tmpfs, err)
	// Output: true <nil>
}
