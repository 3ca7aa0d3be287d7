package flush

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func setVeto(t *testing.T, list string) {
	before := veto
	veto = parseVeto(list)
	t.Cleanup(func() { veto = before })
}

func TestParseVeto(t *testing.T) {
	assert.Empty(t, parseVeto(""))
	assert.Empty(t, parseVeto(" , ,"))
	v := parseVeto("CLWB, dc cvap,dccvadp ,movnt,eadr")
	for _, name := range []string{methodCLWB, methodCVAP, methodCVADP, vetoMOVNT, methodCache} {
		assert.True(t, v.forbids(name), name)
	}
	for _, name := range []string{methodCLFLUSHOPT, methodCLFLUSH, methodCVAC} {
		assert.False(t, v.forbids(name), name)
	}
}

// TestVetoMovesDownTheChain forbids the best method, then the next, until
// none is left.
func TestVetoMovesDownTheChain(t *testing.T) {
	useForTest(t, method) // restores it
	setVeto(t, "")
	rest := detect()
	list := ""
	for len(rest) > 0 {
		assert.Equal(t, rest[0], choose(rest))
		if rest[0] == methodCache {
			list += ",eadr"
		} else {
			list += "," + rest[0]
		}
		setVeto(t, list)
		left := detect()
		require.Equal(t, rest[1:], append([]string{}, left...))
		rest = left
	}
	assert.Equal(t, methodNone, choose(rest))
}

// TestCacheComesFirst: where the caches survive nothing need be written back.
func TestCacheComesFirst(t *testing.T) {
	before := cacheIsDurable
	t.Cleanup(func() { cacheIsDurable = before })
	cacheIsDurable = true
	setVeto(t, "")
	if architectureAvailable() {
		assert.Equal(t, methodCache, detect()[0])
	}
	setVeto(t, "eadr")
	assert.NotContains(t, detect(), methodCache)
}

func TestEveryRegionKeepsCache(t *testing.T) {
	for name, test := range map[string]struct {
		domains []string // "-": no file
		want    bool
	}{
		"no region":       {nil, false},
		"one":             {[]string{"cpu_cache\n"}, true},
		"all":             {[]string{"cpu_cache\n", "cpu_cache\n"}, true},
		"controller only": {[]string{"memory_controller\n"}, false},
		"mixed":           {[]string{"cpu_cache\n", "memory_controller\n"}, false},
		"no domain":       {[]string{"cpu_cache\n", "\n"}, false},
		"no file":         {[]string{"cpu_cache\n", "-"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "namespace0.0"), 0o777))
			for i, domain := range test.domains {
				region := filepath.Join(dir, "region"+string(rune('0'+i)))
				require.NoError(t, os.Mkdir(region, 0o777))
				if domain != "-" {
					require.NoError(t, os.WriteFile(filepath.Join(region, "persistence_domain"), []byte(domain), 0o666))
				}
			}
			assert.Equal(t, test.want, everyRegionKeepsCache(filepath.Join(dir, "region*")))
		})
	}
}
