//go:build !unix

package main

import "os"

// diskBytes is the file's size, where blocks are not told.
func diskBytes(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
