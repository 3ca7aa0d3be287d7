package machine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestArchive reads back what the kernel would: heads of 110 bytes, and everything
// on a multiple of 4.
func TestArchive(t *testing.T) {
	a := NewArchive()
	a.Add("/lib/x/one", []byte("12345"))
	a.Add("lib/x/one", []byte("twice"))
	a.Add("lib/two", nil)
	path := filepath.Join(t.TempDir(), "a")
	if err := a.Write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	up := func(n int) int { return (n + 3) &^ 3 }
	var names []string
	content := map[string]string{}
	for at := 0; at < len(b); {
		var size, name int
		if !bytes.HasPrefix(b[at:], []byte("070701")) {
			t.Fatalf("no head at %d", at)
		}
		if _, err := fmt.Sscanf(string(b[at+54:at+62])+" "+string(b[at+94:at+102]), "%x %x", &size, &name); err != nil {
			t.Fatal(err)
		}
		names = append(names, string(b[at+110:at+110+name-1]))
		at = up(at + 110 + name)
		content[names[len(names)-1]] = string(b[at : at+size])
		at = up(at + size)
	}
	if have := fmt.Sprint(names); have != "[dev dev/console lib lib/x lib/x/one lib/two TRAILER!!!]" {
		t.Fatal(have)
	}
	if content["lib/x/one"] != "12345" {
		t.Fatal(content)
	}
}
