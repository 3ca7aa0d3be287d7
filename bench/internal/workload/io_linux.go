package workload

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ioCounters are bytes since some moment.
type ioCounters struct{ written, device int64 }

// readIO reads this process's counter and that of the device below dir.
func readIO(dir string) (c ioCounters) {
	text, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "write_bytes:"); ok {
			c.written, _ = strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	var st unix.Stat_t
	if dir == "" || unix.Stat(dir, &st) != nil {
		return c
	}
	text, _ = os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev)))
	// Documentation/block/stat.rst: the seventh field is sectors of 512 bytes written.
	if fields := strings.Fields(string(text)); len(fields) > 6 {
		sectors, _ := strconv.ParseInt(fields[6], 10, 64)
		c.device = sectors * 512
	}
	return c
}

// residentBytes is the memory of this process, and of it what is not a file's.
func residentBytes() (all, anonymous float64) {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			all = kib * 1024
		case "RssAnon:":
			anonymous = kib * 1024
		}
	}
	return all, anonymous
}
