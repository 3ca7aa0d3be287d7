package flush

import (
	"os"
	"path/filepath"
	"strings"
)

const vetoVariable = "PMEMTABLE_VETO"

// regionsGlob matches the kernel's directories of persistent memory regions.
const regionsGlob = "/sys/bus/nd/devices/region*"

// vetoes holds the names of forbidden instructions in the spelling of
// vetoVariable: lower case, no spaces.
type vetoes map[string]bool

// vetoMOVNT forbids non-temporal stores, which are no method of their own.
const vetoMOVNT = "movnt"

// parseVeto reads a list separated by commas. Names it does not know are
// kept: one setting may serve machines of several architectures.
func parseVeto(list string) vetoes {
	v := vetoes{}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.ToLower(strings.ReplaceAll(name, " ", ""))
		if name != "" {
			v[name] = true
		}
	}
	return v
}

// forbids tells whether method (or vetoMOVNT) is forbidden.
func (v vetoes) forbids(method string) bool {
	if method == methodCache {
		return v["eadr"]
	}
	return v[strings.ReplaceAll(method, " ", "")]
}

// everyRegionKeepsCache tells whether there are regions and all of them have
// the CPU cache within their persistence domain. One without (or with a domain
// that cannot be read, or none, as virtio-pmem) makes the answer no: a process
// may map a file of any region.
func everyRegionKeepsCache(glob string) bool {
	regions, err := filepath.Glob(glob)
	if err != nil || len(regions) == 0 {
		return false
	}
	for _, region := range regions {
		domain, err := os.ReadFile(filepath.Join(region, "persistence_domain"))
		if err != nil || strings.TrimSpace(string(domain)) != "cpu_cache" {
			return false
		}
	}
	return true
}
