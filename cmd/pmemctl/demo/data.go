// Package demo shows what pmemtable promises and proves it on the spot: several
// writers load real data in a process of their own, that process is killed with
// SIGKILL in the middle, and every write that it had acknowledged must be there
// when the table is opened again.
package demo

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"os"

	"pmemtable/cmd/pmemctl/internal/records"
)

// packages is the first 4,900 stanzas of a Debian package index, as they are:
// names that share prefixes, values from a few hundred bytes to many thousand.
// Made-up data would be kinder to a hash table.
//
//go:embed debian-packages.jsonl.gz
var packages []byte

// Packages is the data that the demo carries, for tests: gzipped JSONL.
func Packages() []byte { return packages }

// entry is one write of the demo; its number is its place in the data.
type entry struct{ key, value []byte }

// minEntries leaves something to kill in the last round.
const minEntries = 1000

// load reads the data into memory, the demo's own if path is empty. The parent
// and the writing child both load it, so that they agree on the numbers.
func load(path string) ([]entry, error) {
	var input io.Reader = bytes.NewReader(packages)
	name := "the demo's data"
	if path != "" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		input, name = file, path
	}
	reader, err := records.NewReader(input, records.ReadOptions{Name: path})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var entries []entry
	place := map[string]int{}
	for {
		record, err := reader.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		e := entry{bytes.Clone(record.Key), bytes.Clone(record.Value)}
		if i, again := place[string(e.key)]; again {
			entries[i] = e // each key once: writers do not keep the order of the data
			continue
		}
		place[string(e.key)] = len(entries)
		entries = append(entries, e)
	}
	if len(entries) < minEntries {
		return nil, fmt.Errorf("%s: %s different keys; the demo needs %s to have a middle to kill in", name, number(len(entries)), number(minEntries))
	}
	return entries, nil
}

func sizeBytes(entries []entry) (n int64) {
	for _, e := range entries {
		n += int64(len(e.key) + len(e.value))
	}
	return n
}
