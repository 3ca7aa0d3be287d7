//go:build race

package table_test

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

// raceEnv names the read path that a child takes.
const raceEnv = "PMEMTABLE_TEST_RACE"

// TestPlantedRaceIsCaught shows that the detector sees what this suite relies on
// it to see: the same loop is clean with Get and View, and reported with a read
// that leaves out the check of the version.
func TestPlantedRaceIsCaught(t *testing.T) {
	if words := childOf(raceEnv, 1); words != nil {
		plantedRace(t, words[0])
		return
	}
	for name, caught := range map[string]bool{"checked": false, "unchecked": true} {
		cmd := testProgram("-test.run=^TestPlantedRaceIsCaught$", "-test.v")
		cmd.Env = append(os.Environ(), raceEnv+"="+name)
		output, err := cmd.CombinedOutput()
		if caught {
			require.Error(t, err, "%s", output)
			require.Contains(t, string(output), "DATA RACE")
			require.Contains(t, string(output), "GetUnchecked")
		} else {
			require.NoError(t, err, "%s", output)
			require.Contains(t, string(output), "--- PASS: TestPlantedRaceIsCaught")
		}
	}
}

// plantedRace is the child's side.
func plantedRace(t *testing.T, way string) {
	tab := onHeap(t, pmem.Tmpfs, 1, 1<<20)
	c := &crowd{t: t, tab: tab, keys: 1, units: 8}
	require.NoError(t, tab.Put(key(0), told(0, c.issued.Add(1), 8)))
	c.write(1, 20_000, func(*rand.Rand) error { return tab.Put(key(0), told(0, c.issued.Add(1), 8)) })
	c.run(2, func(*rand.Rand) {
		if way == "unchecked" {
			tab.GetUnchecked(key(0))
			return
		}
		v, err := tab.Get(key(0))
		assert.NoError(t, err)
		c.check(0, v)
		assert.NoError(t, tab.View(key(0), func(v []byte) error { c.check(0, v); return nil }))
	})
	c.wg.Wait()
}
