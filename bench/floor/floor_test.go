package floor

import (
	"testing"

	"pmemtable/flush"
)

func TestMeasure(t *testing.T) {
	f, err := Open(t.TempDir(), 5000, IndexBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := f.Measure(2000)
	for _, name := range []string{Line, Record, LineRecord, Independent} {
		if got[name] <= 0 {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	if flush.Available() && got[Cached] <= 0 {
		t.Errorf("%s: %v", Cached, got[Cached])
	}
}
