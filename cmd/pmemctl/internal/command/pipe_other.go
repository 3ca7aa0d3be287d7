//go:build !windows

package command

import ()

func isSystemBrokenPipe(error) bool { return false }
