package command

import (
	"fmt"

	"pmemtable/cmd/pmemctl/internal/records"
)

// scanList writes the document of scan --json piece by piece, for it may be larger
// than memory:
//
//	{"schema_version": 1, "file": "t.pmt", "entries": [
//	{"key": "a", "value": "1"},
//	{"key": "b", "value": "2"}
//	], "listed": 2, "complete": true, "next_cursor": "0"}
type scanList struct {
	out    *output
	listed int64
}

// scanEntry is an entry of it.
type scanEntry struct {
	keyDocument
	valueDocument // empty with --keys-only
}

// scanDocument is what the pieces make; next_cursor is missing if the scan failed.
type scanDocument struct {
	SchemaVersion int         `json:"schema_version"`
	File          string      `json:"file"`
	Entries       []scanEntry `json:"entries"`
	Listed        int64       `json:"listed"`
	Complete      bool        `json:"complete"`
	NextCursor    string      `json:"next_cursor,omitempty"`
}

func newScanEntry(key, value []byte, keyFormat records.Encoding, o scanOptions) scanEntry {
	e := scanEntry{keyDocument: newKeyDocument(key, keyFormat)}
	if !o.keysOnly {
		e.valueDocument = newValueDocument(value, o.valueFormat)
	}
	return e
}

func (l *scanList) begin(file string) {
	fmt.Fprintf(l.out, `{"schema_version": %d, "file": `, schemaVersion)
	l.out.inline(file)
	_, _ = l.out.WriteString(`, "entries": [`)
}

func (l *scanList) add(e scanEntry) error {
	if l.listed++; l.listed > 1 {
		_ = l.out.WriteByte(',')
	}
	_ = l.out.WriteByte('\n')
	l.out.inline(e)
	return nil
}

func (l *scanList) end(next position, complete bool) error {
	fmt.Fprintf(l.out, "\n], \"listed\": %d, \"complete\": %v", l.listed, complete)
	if complete {
		fmt.Fprintf(l.out, `, "next_cursor": "%s"`, next)
	}
	_, _ = l.out.WriteString("}\n")
	return l.out.Flush()
}
