package machine

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Modules are the kernel modules of an unpacked kernel package, by name. Those that
// are built into the kernel have no file.
type Modules map[string]string

// FindModules finds the modules below dir.
func FindModules(dir string) (Modules, error) {
	m := Modules{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			m[moduleName(name)] = path
		}
		if filepath.Base(path) != "modules.builtin" || err != nil {
			return err
		}
		list, err := os.ReadFile(path)
		for line := range strings.Lines(string(list)) {
			m[moduleName(strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko"))] = ""
		}
		return err
	})
	return m, err
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// InOrder returns the files of the named modules and of all that they depend on,
// each behind what it needs.
func (m Modules) InOrder(names ...string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		path, ok := m[name]
		if !ok {
			return fmt.Errorf("the kernel package has no module %s", name)
		}
		if path == "" {
			return nil
		}
		depends, err := dependencies(path)
		if err != nil {
			return err
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return err
			}
		}
		files = append(files, path)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// dependencies reads what a module says that it depends on. (depmod's index comes
// into being only when the package is installed.)
func dependencies(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s has no .modinfo", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []string
	for _, field := range bytes.Split(data, []byte{0}) {
		if list, ok := strings.CutPrefix(string(field), "depends="); ok && list != "" {
			for name := range strings.SplitSeq(list, ",") {
				out = append(out, moduleName(name))
			}
		}
	}
	return out, nil
}
