package machine

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// Archive is the initial file system of a machine: a cpio archive in the "newc"
// format that Linux unpacks at boot.
type Archive struct {
	entries []entry
	known   map[string]bool
}

type entry struct {
	name string
	mode uint32
	data []byte
	dev  [2]uint32
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
	modeLink = 0o120777
	modeChar = 0o020600
)

// NewArchive returns an archive with a console in it.
func NewArchive() *Archive {
	a := &Archive{known: map[string]bool{}}
	a.dir("dev")
	a.entries = append(a.entries, entry{name: "dev/console", mode: modeChar, dev: [2]uint32{5, 1}})
	return a
}

func (a *Archive) dir(name string) {
	if name == "." || name == "/" || a.known[name] {
		return
	}
	a.dir(path.Dir(name))
	a.known[name] = true
	a.entries = append(a.entries, entry{name: name, mode: modeDir})
}

// Add adds an executable file with this content.
func (a *Archive) Add(name string, data []byte) {
	name = strings.TrimPrefix(name, "/")
	if a.known[name] {
		return
	}
	a.dir(path.Dir(name))
	a.known[name] = true
	a.entries = append(a.entries, entry{name: name, mode: modeFile, data: data})
}

// Link adds a symbolic link.
func (a *Archive) Link(name, target string) {
	a.dir(path.Dir(name))
	a.entries = append(a.entries, entry{name: name, mode: modeLink, data: []byte(target)})
}

// AddFile adds a file of the host.
func (a *Archive) AddFile(name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	a.Add(name, data)
	return nil
}

// AddModules adds kernel modules so that the names sort in the order given.
func (a *Archive) AddModules(files []string) error {
	for i, f := range files {
		if err := a.AddFile(fmt.Sprintf("modules/%03d-%s", i, path.Base(f)), f); err != nil {
			return err
		}
	}
	return nil
}

// Write writes the archive to a file.
func (a *Archive) Write(to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for i, e := range append(slices.Clone(a.entries), entry{name: "TRAILER!!!"}) {
		fmt.Fprintf(w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			i+1, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, e.dev[0], e.dev[1], len(e.name)+1, 0)
		const headBytes = 110
		pad(w, headBytes, e.name+"\x00")
		pad(w, 0, string(e.data))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// pad writes s, and zeros up to a multiple of 4 bytes, before of them written already.
func pad(w *bufio.Writer, before int, s string) {
	_, _ = w.WriteString(s) // Flush reports
	for n := before + len(s); n%4 != 0; n++ {
		_ = w.WriteByte(0)
	}
}
