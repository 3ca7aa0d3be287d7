package blocklog

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// sectors is the content of sectors that each hold one byte value.
func sectors(values ...byte) []byte {
	var b []byte
	for _, v := range values {
		b = append(b, bytes.Repeat([]byte{v}, SectorBytes)...)
	}
	return b
}

func write(sector uint64, values ...byte) Entry {
	return Entry{Sector: sector, Sectors: uint64(len(values)), Data: sectors(values...)}
}

var flush = Entry{Flush: true}

// encode writes entries as the driver does.
func encode(entries []Entry) []byte {
	b := make([]byte, SectorBytes)
	binary.LittleEndian.PutUint64(b, magic)
	binary.LittleEndian.PutUint64(b[8:], version)
	binary.LittleEndian.PutUint64(b[16:], uint64(len(entries)))
	binary.LittleEndian.PutUint32(b[24:], SectorBytes)
	for _, e := range entries {
		head := make([]byte, SectorBytes)
		binary.LittleEndian.PutUint64(head, e.Sector)
		binary.LittleEndian.PutUint64(head[8:], e.Sectors)
		flags := uint64(0)
		if e.Flush {
			flags |= flagFlush
		} else if e.Data == nil {
			flags |= flagDiscard
		}
		binary.LittleEndian.PutUint64(head[16:], flags)
		b = append(append(b, head...), e.Data...)
	}
	return b
}

func TestParse(t *testing.T) {
	want := []Entry{write(3, 1, 2), flush, {Sector: 4, Sectors: 1}, write(9, 7), flush}
	b := encode(want)
	have, err := parse(bytes.NewReader(b))
	if err != nil || len(have) != len(want) {
		t.Fatal(have, err)
	}
	for i := range want {
		if have[i].Sector != want[i].Sector || have[i].Flush != want[i].Flush || !bytes.Equal(have[i].Data, want[i].Data) {
			t.Fatalf("entry %d: %+v", i, have[i])
		}
	}
	for _, damaged := range [][]byte{nil, b[:len(b)-1], b[:SectorBytes], append([]byte{1}, b[1:]...)} {
		if _, err := parse(bytes.NewReader(damaged)); err == nil {
			t.Fatal("a damaged log passes")
		}
	}
}

func TestImages(t *testing.T) {
	entries := []Entry{write(9, 5), write(10, 1, 1), flush, write(10, 2, 2), write(11, 3), {Sector: 12, Sectors: 1}, write(100, 9), flush}
	initial := sectors(8, 8, 8, 8) // sectors 10 to 13
	image := func(s State) []byte {
		b := NewDisk(entries, 10, initial).Image(s, nil)
		return []byte{b[0], b[SectorBytes], b[2*SectorBytes], b[3*SectorBytes]}
	}
	for _, c := range []struct {
		state State
		want  []byte
	}{
		{State{Flush: -1, Cut: 0, Kind: AtFlush}, []byte{8, 8, 8, 8}},
		{State{Flush: 2, Cut: 3, Kind: AtFlush}, []byte{1, 1, 8, 8}},
		{State{Flush: 2, Cut: 4, Kind: InOrder}, []byte{2, 2, 8, 8}},
		{State{Flush: 2, Cut: 6, Kind: InOrder}, []byte{2, 3, 0, 8}},
		{State{Flush: 7, Cut: 8, Kind: AtFlush}, []byte{2, 3, 0, 8}},
	} {
		if have := image(c.state); !slices.Equal(have, c.want) {
			t.Errorf("%v: %v, not %v", c.state, have, c.want)
		}
	}
	seen := map[[2]byte]bool{} // of sectors 10 and 11
	for seed := range uint64(300) {
		b := image(State{Flush: 2, Cut: 7, Kind: Torn, Seed: seed})
		seen[[2]byte{b[0], b[1]}] = true
	}
	if len(seen) != 2*3 {
		t.Errorf("the sectors have %d contents, not every one that they can", len(seen))
	}
	seen = map[[2]byte]bool{}
	for seed := range uint64(300) {
		b := image(State{Flush: 2, Cut: 7, Kind: Subset, Seed: seed})
		seen[[2]byte{b[0], b[1]}] = true
	}
	if len(seen) != 4 {
		t.Errorf("two writes have %d outcomes", len(seen))
	}
}

func TestStates(t *testing.T) {
	var entries []Entry
	for range 200 {
		entries = append(entries, write(1, 1), write(2, 1), write(3, 1), flush)
	}
	for _, n := range []int{1, 100, 2000} {
		states := States(entries, n, 5)
		if len(states) != n || !slices.EqualFunc(states, States(entries, n, 5), func(a, b State) bool { return a == b }) {
			t.Fatalf("%d states of %d, or not the same again", len(states), n)
		}
		last := 0
		for _, s := range states {
			if s.Cut <= s.Flush || s.Cut < last || s.Cut > len(entries) {
				t.Fatalf("%v behind a cut at %d", s, last)
			}
			last = s.Cut
		}
	}
	at := 0
	for _, s := range States(entries, 2000, 5) {
		if s.Kind == AtFlush {
			at++
		}
	}
	if at != 201 {
		t.Fatalf("%d of 201 flushes", at)
	}
}
