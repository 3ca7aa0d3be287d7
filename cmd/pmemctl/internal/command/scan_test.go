package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func manyEntries(n int) (flat []string, set map[string]bool) {
	set = map[string]bool{}
	for i := range n {
		key := fmt.Sprintf("%s/%d", []string{"even", "odd"}[i%2], i)
		flat = append(flat, key, fmt.Sprint("value of ", key))
		set[key] = true
	}
	return flat, set
}

func TestScanPrintsEverythingOnce(t *testing.T) {
	flat, set := manyEntries(1500)
	file := newTable(t, flat...)
	lines := strings.Split(strings.TrimSuffix(must(t, "scan", file), "\n"), "\n")
	require.Len(t, lines, len(set))
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "\t")
		assert.True(t, set[key])
		assert.Equal(t, "value of "+key, value)
		delete(set, key)
	}
	assert.Empty(t, set)
	assert.Equal(t, "", must(t, "scan", newTable(t)))
}

func TestScanPagesMeetEveryEntryOnce(t *testing.T) {
	flat, set := manyEntries(1500)
	file := newTable(t, flat...)
	for _, limit := range []int{1, 7, 333, 1500, 5000} {
		if limit == 1 && testing.Short() {
			continue
		}
		left := maps.Clone(set)
		for cursor, pages := "0", 0; ; pages++ {
			r := run(t, "scan", "--keys-only", "--prefix", "odd/", "--limit", fmt.Sprint(limit), "--cursor", cursor, file)
			require.Equal(t, ExitOK, r.code, r.err)
			keys := strings.Fields(r.out)
			require.LessOrEqual(t, len(keys), limit)
			for _, key := range keys {
				require.True(t, left[key], "%s twice", key)
				delete(left, key)
			}
			cursor = strings.TrimSuffix(strings.TrimPrefix(r.err, "next cursor: "), "\n")
			if cursor == "0" {
				break
			}
			require.Less(t, pages, 1500)
		}
		assert.Len(t, left, 750, "the even ones are left")
		if limit == 1 {
			assert.False(t, slices.ContainsFunc(slices.Collect(maps.Keys(left)), func(k string) bool { return k[0] == 'o' }))
		}
	}
}

func TestScanGoesOnWhenTheKeyOfItsCursorIsGone(t *testing.T) {
	flat, set := manyEntries(300)
	file := newTable(t, flat...)
	first := run(t, "scan", "--keys-only", "--limit", "5", file)
	keys := strings.Fields(first.out)
	must(t, "delete", file, keys[4])
	cursor := strings.TrimSpace(strings.TrimPrefix(first.err, "next cursor: "))
	for _, key := range append(keys, strings.Fields(must(t, "scan", "--keys-only", "--cursor", cursor, file))...) {
		delete(set, key)
	}
	assert.Empty(t, set, "no entry may be missed")
}

func TestScanFormatsAndEscapes(t *testing.T) {
	file := newTable(t, hostileKey, "a\tb\\")
	assert.Equal(t, hostileKey+"\ta\tb\\\n", must(t, "scan", file))
	tty := world{terminal: true}
	r := tty.run(t, "scan", file)
	assertHarmless(t, r.out)
	assert.Contains(t, r.out, "\ta\\tb\\\\\n")
	assert.Equal(t, hostileKey+"\ta\tb\\\n", tty.run(t, "scan", "--raw", file).out)
	assert.Equal(t, fmt.Sprintf("%x\t%s\n", hostileKey, "YQliXA=="), must(t, "scan", "--key-format=hex", "--value-format=base64", file))
	assert.NotEmpty(t, must(t, "scan", "--key-format=hex", "--prefix", "1b5d", file))
	assert.Empty(t, must(t, "scan", "--key-format=hex", "--prefix", "1b5e", file))
}
