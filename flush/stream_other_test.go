//go:build purego || !amd64

package flush

import "testing"

// Without non-temporal stores there is nothing to vary.
var streamSizesToTest = []uintptr{0}

func setStreamBytes(testing.TB, uintptr) {}
