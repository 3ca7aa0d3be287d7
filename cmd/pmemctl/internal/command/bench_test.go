package command

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/internal/taste"
)

func TestBench(t *testing.T) {
	dir := t.TempDir()
	var d benchDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "bench", "--json", "--entries=1000", "--for=1ms", "--goroutines=2", dir)), &d))
	floors := map[string]bool{}
	for _, f := range d.Figures {
		assert.Positive(t, f.Operations, f.Name)
		assert.Positive(t, f.PerSecond, f.Name)
		assert.LessOrEqual(t, f.P50Ns, f.P99Ns)
		floors[f.Name] = true
		assert.True(t, f.Floor == "" || floors[f.Floor], f.Floor)
		assert.Equal(t, f.Floor != "", f.TimesFloor > 0)
	}
	assert.Len(t, d.Figures, 9)
	assert.Empty(t, names(t, dir), "nothing is left behind")
	for _, args := range [][]string{{"--entries=1"}, {"--for=0s"}, {"--goroutines=-1"}, {"--value-size=-1"}} {
		fails(t, ExitUsage, args[0][:5], append([]string{"bench"}, args...)...)
	}
	fails(t, ExitIO, "no such file", "bench", filepath.Join(dir, "missing"))

	ctx, stop := context.WithCancel(t.Context())
	stop()
	r := world{}.runContext(t, ctx, "bench", dir)
	assert.Equal(t, ExitInterrupted, r.code)
	assert.Empty(t, names(t, dir))
}

func TestBenchText(t *testing.T) {
	out, text := buffered()
	printBench(out, taste.Options{Entries: 1000, ValueBytes: 100}, []taste.Figure{
		{Name: taste.ReadFloor, Goroutines: 2, Operations: 10, PerSecond: 9_876_543, MeanNs: 101.25, P50Ns: 90, P99Ns: 1234, MaxNs: 99999},
		{Name: "put new (OnSync)", Goroutines: 2, Operations: 10, PerSecond: 1_000_000, MeanNs: 2000},
		{Name: "put over, durable (Always)", Goroutines: 1, Operations: 3, PerSecond: 2, MeanNs: 5e8, P50Ns: 4_567_890, P99Ns: 3_000_000_000, Floor: "f", TimesFloor: 1.257},
	})
	require.NoError(t, out.Flush())
	golden(t, "bench.txt", text.String())
}
