package host

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMountOf(t *testing.T) {
	const mountinfo = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
36 22 259:0 / /mnt/pm\040em rw,noatime shared:2 master:1 - xfs /dev/pmem0 rw,dax=always
malformed
37 22 0:25 / /dev/shm rw,nosuid - tmpfs tmpfs rw,huge=within_size
`
	var f Facts
	f.mountOf(strings.NewReader(mountinfo), "259:0")
	assert.Equal(t, Facts{FileSystem: "xfs", Mount: "/mnt/pm em", MountOptions: "rw,noatime,rw,dax=always"}, f)
	f = Facts{}
	f.mountOf(strings.NewReader(mountinfo), "0:99")
	assert.Equal(t, Facts{}, f)
}

func TestLook(t *testing.T) {
	f := Look(t.TempDir())
	assert.NotEmpty(t, f.Kernel)
	assert.Positive(t, f.Processors)
	assert.Positive(t, f.FreeBytes)
	assert.Equal(t, "", policy("/no such file"))
}
