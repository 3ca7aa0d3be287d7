package session

import (
	"slices"
	"strings"
	"testing"

	"pmemtable/internal/guest/history"
)

func TestLinesComeBack(t *testing.T) {
	a := history.Ack{N: 7, Start: 100, End: 200}
	m, err := Parse(strings.TrimSpace(ackLine(2, 1, a)))
	if err != nil || m.Table != 2 || m.Writer != 1 || m.Ack != a {
		t.Fatal(m, err)
	}
	m, err = Parse(strings.TrimSpace(syncLine(1, []uint64{5, 0, 9})))
	if err != nil || m.Table != 1 || !slices.Equal(m.Synced, []uint64{5, 0, 9}) {
		t.Fatal(m, err)
	}
	for _, line := range []string{"", "ack", "ack 1 2 3", "sync", "sync x", "entry 1 2", "table", "nothing 1"} {
		if _, err := Parse(line); err == nil {
			t.Errorf("%q passes", line)
		}
	}
}
