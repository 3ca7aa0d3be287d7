//go:build browser

package picture

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPageInABrowser has a real one draw the page and point at a chunk: go test
// -tags browser, with Chromium installed.
func TestPageInABrowser(t *testing.T) {
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	require.NotEmpty(t, browser, "install Chromium: apt-get install chromium")
	var text bytes.Buffer
	require.NoError(t, Page(&text, hostileName, space()))
	pointing := `<script>
document.querySelector('rect.segments').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
document.body.dataset.chunks = document.querySelectorAll('#chunks rect').length;
document.body.dataset.height = document.querySelector('svg').getBoundingClientRect().height;
</script></body>`
	dir := t.TempDir()
	path := filepath.Join(dir, "page.html")
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(text.String(), "</body>", pointing, 1)), 0o600))
	cmd := exec.Command(browser, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+filepath.Join(dir, "profile"),
		"--dump-dom", "file://"+path)
	dom, err := cmd.Output()
	require.NoError(t, err)
	assert.Contains(t, string(dom), `data-chunks="21"`)
	assert.Regexp(t, `data-height="[1-9][0-9]+`, string(dom))
	assert.Regexp(t, `<div id="detail"[^>]*>chunk 3: segments, 31 % used, from offset 0x50000; 2 blocks of 128 bytes</div>`, string(dom))
	assert.NotContains(t, string(dom), "<title>owned")
}
