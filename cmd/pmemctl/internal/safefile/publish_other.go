//go:build !linux

package safefile

func publish(aside, path string) error { return publishByLink(aside, path) }

// syncDirectory does nothing where directories cannot be synced portably.
func syncDirectory(string) error { return nil }
