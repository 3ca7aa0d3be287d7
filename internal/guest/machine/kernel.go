package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Kernel is an unpacked kernel package.
type Kernel struct {
	Arch    string // as in GOARCH
	Image   string // uncompressed
	Modules Modules
}

// FindKernel finds the kernel of a package for an architecture that was unpacked
// in dir. Where the image is compressed it is unpacked beside it: an emulated
// processor would take seconds for that at each boot.
func FindKernel(dir, arch string) (*Kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil {
		return nil, err
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("%d kernels in %q, not one", len(images), dir)
	}
	k := &Kernel{Arch: arch, Image: filepath.Join(dir, "vmlinux")}
	if k.Modules, err = FindModules(filepath.Join(dir, "lib", "modules")); err != nil {
		return nil, err
	}
	if arch == "arm64" {
		k.Image = images[0]
		return k, nil
	}
	if _, err := os.Stat(k.Image); err == nil {
		return k, nil
	}
	return k, uncompress(images[0], k.Image)
}

// Offsets in the head of a bzImage, from Linux' Documentation/arch/x86/boot.rst.
const (
	setupSectors  = 0x1f1
	payloadOffset = 0x248
	payloadLength = 0x24c
)

func uncompress(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if len(b) < payloadLength+4 {
		return fmt.Errorf("%s is no kernel", from)
	}
	begin := (int(b[setupSectors])+1)*512 + int(binary.LittleEndian.Uint32(b[payloadOffset:]))
	end := begin + int(binary.LittleEndian.Uint32(b[payloadLength:]))
	if end > len(b) || !bytes.HasPrefix(b[begin:end], []byte("\xfd7zXZ")) {
		return fmt.Errorf("%s: the payload is not xz", from)
	}
	cmd := exec.Command("xz", "-dc", "--single-stream")
	cmd.Stdin = bytes.NewReader(b[begin:end])
	image, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("xz: %w", err)
	}
	if err := os.WriteFile(to+".tmp", image, 0o600); err != nil {
		return err
	}
	return os.Rename(to+".tmp", to)
}
