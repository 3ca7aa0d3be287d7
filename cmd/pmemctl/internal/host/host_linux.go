package host

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func (f *Facts) look(path string) {
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		f.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) == nil {
		f.FreeBytes = int64(fs.Bavail) * int64(fs.Bsize)
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		if mounts, err := os.Open("/proc/self/mountinfo"); err == nil {
			f.mountOf(mounts, fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))))
			_ = mounts.Close()
		}
	}
	f.HugePages = policy("/sys/kernel/mm/transparent_hugepage/enabled")
	f.SharedHugePages = policy("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
}

// mountOf finds a device in mountinfo (see proc_pid_mountinfo(5)):
//
//	36 35 98:0 / /mnt rw,noatime shared:1 - ext4 /dev/sda rw,dax=always
//
// The last mount counts: it hides those before it.
func (f *Facts) mountOf(mountinfo io.Reader, device string) {
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		mount, fs := strings.Fields(before), strings.Fields(after)
		if !found || len(mount) < 6 || len(fs) < 3 || mount[2] != device {
			continue
		}
		f.FileSystem, f.Mount, f.MountOptions = fs[0], unescape(mount[4]), mount[5]+","+fs[2]
	}
}

// unescape undoes \040 and the like.
func unescape(text string) string {
	for _, c := range []string{" ", "\t", "\n", "\\"} {
		text = strings.ReplaceAll(text, fmt.Sprintf("\\%03o", c[0]), c)
	}
	return text
}

// policy reads a file of choices, of which the one in force is in brackets.
func policy(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(content), "[")
	choice, _, _ := strings.Cut(rest, "]")
	return choice
}
