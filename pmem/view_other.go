//go:build !linux

package pmem

import (
	"errors"
	"os"
)

// Without MAP_FIXED at hand a file keeps its size while it is open.

func mapZeros([]byte, bool) error { return errors.ErrUnsupported }

func mapAgain(*os.File, []byte, int64, bool) error { return errors.ErrUnsupported }
