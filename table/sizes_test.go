package table_test

import (
	"os"
	"testing"

	"github.com/zeebo/xxh3"

	"pmemtable/internal/race"
	"pmemtable/pmem"
)

// The sizes of tests.

// slow tells that everything takes ten to twenty times as long: under the race
// detector, and on a processor that is emulated.
func slow() bool { return race.Enabled || emulated() }

// emulated tells that programs run by an emulator, which testProgram starts them with.
func emulated() bool { return os.Getenv("PMEMTABLE_TEST_EXEC") != "" }

// mediaFor are the media of a test that one goroutine does on each of them. In slow
// places it is one, by the test's name: all are gone through elsewhere.
func mediaFor(t *testing.T) []pmem.Media {
	all := mediaHere()
	if !slow() || !testing.Short() {
		return all
	}
	i := int(xxh3.HashString(t.Name()) % uint64(len(all)))
	return all[i : i+1]
}

// rounds is how often a test repeats what several goroutines or processes do: long,
// or short with -short. The race detector finds more in many rounds, but few are slow
// enough.
func rounds(long, short int) int {
	if testing.Short() || race.Enabled {
		return short
	}
	return long
}

// alone is rounds for what one goroutine does: least in slow places, where many rounds
// show nothing that few do not, since the same code runs in all of them and other
// places go through the many.
func alone(long, short, least int) int {
	if slow() && testing.Short() {
		return least
	}
	return rounds(long, short)
}
