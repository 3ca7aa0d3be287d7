//go:build !windows

package command

func isSystemBrokenPipe(error) bool { return false }
