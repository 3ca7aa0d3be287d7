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
	Image   string // uncompressed
	Modules Modules
}

// FindKernel finds the kernel of a package that was unpacked in dir, and unpacks
// its image beside it: an emulated processor would take seconds for that at each
// boot.
func FindKernel(dir string) (*Kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil {
		return nil, err
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("%d kernels in %q, not one", len(images), dir)
	}
	k := &Kernel{Image: filepath.Join(dir, "vmlinux")}
	if k.Modules, err = FindModules(filepath.Join(dir, "lib", "modules")); err != nil {
		return nil, err
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
