package command

import (
	"context"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCrashtest(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	dir := t.TempDir()
	out := must(t, "crashtest", "--programs=1", "--kills=1", "--seed=7", dir)
	assert.True(t, strings.HasPrefix(out, "power loss   1 program of seed 7 on, on each medium\n"), out)
	assert.Len(t, regexp.MustCompile(`[0-9,]+ crash images at [0-9,]+ moments, nothing lost\n`).FindAllString(out, -1), 3)
	assert.Contains(t, out, "PASS: 1 kill, all ")
	assert.Empty(t, names(t, dir))

	var d crashtestDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "crashtest", "--json", "--programs=1", "--kills=0")), &d))
	assert.True(t, d.Passed)
	assert.Len(t, d.PowerLoss, 3)
	assert.Zero(t, d.Kills)
	fails(t, ExitUsage, "--programs", "crashtest", "--programs=-1")
	fails(t, ExitUsage, "--kills", "crashtest", "--kills=1000")
	r := run(t, "crashtest", "--programs=0", "--kills=1", filepath.Join(dir, "missing"))
	assert.Equal(t, ExitIO, r.code)
	assert.Contains(t, r.out, "FAIL: ")
	assert.Empty(t, r.err, "the verdict has said it")

	ctx, stop := context.WithCancel(t.Context())
	stop()
	assert.Equal(t, ExitInterrupted, world{}.runContext(t, ctx, "crashtest", dir).code)
}
