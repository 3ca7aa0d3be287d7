package session

import (
	"fmt"
	"strings"
	"time"

	"pmemtable/internal/guest/history"
)

// The two sides talk in lines. The observer sends JSON (Config, Start) and then
// perhaps "stop". The session sends the lines below; one that is not ended by a
// line feed was cut off, and does not count.
const (
	verbHello   = "hello"   // it has begun
	verbOpening = "opening" // from here on it touches the tables
	verbTable   = "table"   // table NUMBER TEXT: how an open went, for people
	verbEntry   = "entry"   // entry TABLE WRITER KEY BOOT N: what a table holds
	verbReady   = "ready"   // all tables are open, checked and told
	verbAck     = "ack"     // ack TABLE WRITER N START END: an acknowledged step
	verbSync    = "sync"    // sync TABLE N...: a Sync that covers these steps
	verbError   = "error"   // error TEXT: it has failed
	verbDone    = "done"    // all is closed
)

// Config is the first line that the observer sends.
type Config struct {
	Dir     string
	Seed    uint64
	Boot    uint32
	Writers int
	// Lie makes the session open every table OnSync and acknowledge as before, to
	// show that the observer notices.
	Lie bool
	// AckDevice is where acknowledgements are written, past the page cache,
	// instead of sent: a region of the disk whose log is taken.
	AckDevice string
}

// Start is the second line: the step that each table's writers go on behind, and
// after how many steps they end; 0 is never.
type Start struct {
	From  [][]uint64
	Steps uint64
}

// Message is a line of the session's, taken apart.
type Message struct {
	Verb   string
	Table  int
	Writer int
	Key    int
	Stamp  history.Stamp
	Ack    history.Ack
	Synced []uint64
	Text   string
}

// Parse takes a line apart, without its line feed.
func Parse(line string) (m Message, err error) {
	verb, rest, _ := strings.Cut(line, " ")
	m.Verb = verb
	var n int
	want := 0
	switch verb {
	case verbHello, verbOpening, verbReady, verbDone, verbError:
		m.Text = rest
	case verbTable:
		want = 1
		n, err = fmt.Sscanf(rest, "%d", &m.Table)
		_, m.Text, _ = strings.Cut(rest, " ")
	case verbEntry:
		want = 5
		n, err = fmt.Sscanf(rest, "%d %d %d %d %d", &m.Table, &m.Writer, &m.Key, &m.Stamp.Boot, &m.Stamp.N)
	case verbAck:
		want = 5
		n, err = fmt.Sscanf(rest, "%d %d %d %d %d", &m.Table, &m.Writer, &m.Ack.N, &m.Ack.Start, &m.Ack.End)
	case verbSync:
		want = 1
		n, err = fmt.Sscanf(rest, "%d", &m.Table)
		for _, f := range strings.Fields(rest)[min(1, len(strings.Fields(rest))):] {
			var covered uint64
			if _, err := fmt.Sscanf(f, "%d", &covered); err != nil {
				return m, fmt.Errorf("line %q: %w", line, err)
			}
			m.Synced = append(m.Synced, covered)
		}
	default:
		return m, fmt.Errorf("line %q is none of a session's", line)
	}
	if n != want {
		return m, fmt.Errorf("line %q: %d numbers, not %d: %w", line, n, want, err)
	}
	return m, nil
}

func ackLine(table, writer int, a history.Ack) string {
	return fmt.Sprintf("%s %d %d %d %d %d\n", verbAck, table, writer, a.N, int64(a.Start), int64(a.End))
}

func syncLine(table int, covered []uint64) string {
	return fmt.Sprintf("%s %d %s\n", verbSync, table, strings.Trim(fmt.Sprint(covered), "[]"))
}

// Spec is one of the tables that a session writes.
type Spec struct {
	Name       string
	Durability string        // as table.ParseDurability reads it
	Interval   time.Duration // of it, if it is one
	Promise    history.Promise
	Small      bool // of the smallest geometry, so that it splits and grows
}

// Specs are the tables of every session: one for each durability.
var Specs = []Spec{
	{Name: "always", Durability: "always", Promise: history.All, Small: true},
	{Name: "interval", Durability: "interval=200ms", Interval: 200 * time.Millisecond, Promise: history.Recent},
	{Name: "onsync", Durability: "onsync", Promise: history.Synced, Small: true},
}
