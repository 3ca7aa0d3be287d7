package command

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReference: docs/pmemctl.md says what the program says.
func TestReference(t *testing.T) {
	path := filepath.Join("..", "..", "..", "..", "docs", "pmemctl.md")
	have := (&App{Out: io.Discard, Err: io.Discard}).Reference()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(have), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), have, "run this test with -update")
	for _, cmd := range visible((&App{Out: io.Discard, Err: io.Discard}).newRoot()) {
		assert.Contains(t, have, "\n## "+cmd.Name()+"\n")
	}
	assert.NotContains(t, have, "demo-writer")
}

func TestShellCompletion(t *testing.T) {
	assert.Contains(t, must(t, "__complete", "check", "--level", ""), "header\nstructure\nchecksum\nfull\n")
	assert.Contains(t, must(t, "__complete", "dump", "t.pmt", ""), "superblock\taddress: 0 or 1\n")
	assert.Contains(t, must(t, "__complete", "exp"), "explain\t")
	assert.True(t, strings.HasPrefix(must(t, "__complete", "get", "--key-format", ""), "utf8\nhex\nbase64\n"))
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		assert.Contains(t, must(t, "completion", shell), "pmemctl")
	}
}
