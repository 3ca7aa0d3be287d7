//go:build unix

package table_test

import "golang.org/x/sys/unix"

// noSpace is what a full disk says.
const noSpace = unix.ENOSPC
