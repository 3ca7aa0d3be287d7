package floor

import (
	"bytes"
	"slices"
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
	for _, name := range []string{Cached, Again, Replaced} {
		if flush.Available() && got[name] <= 0 {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	for name := range got {
		if !slices.Contains(Names, name) {
			t.Errorf("%q is not printed", name)
		}
	}
}

// TestReplacedWritesBoth: what an overwrite's least persists is a record and a word,
// as many times as it was asked for.
func TestReplacedWritesBoth(t *testing.T) {
	const entries, ops = 100, 30
	f, err := Open(t.TempDir(), entries, IndexBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	words := func() map[uint64]uint64 {
		m := map[uint64]uint64{}
		for i := range f.lines {
			m[i] = f.pool.Load(f.index + i*lineBytes)
		}
		return m
	}
	before, changed := words(), 0
	f.replaced(ops, 1)
	for i, word := range words() {
		if word != before[i] {
			changed++
		}
	}
	if changed == 0 || changed > ops {
		t.Errorf("%d operations changed %d words", ops, changed)
	}
	if f.next != ops {
		t.Errorf("%d operations wrote %d records", ops, f.next)
	}
	if got := f.pool.Bytes(f.records+(ops-1)*recordBytes, recordBytes); !bytes.Equal(got, f.source[:]) {
		t.Errorf("the last record holds %x", got)
	}
}
