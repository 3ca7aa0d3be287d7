package flush

import (
	"os"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// faultAddress performs v and returns the address that could not be accessed,
// or nil.
func faultAddress(v []Entry) unsafe.Pointer { return faultOf(func() { Persist(v) }) }

// faultOfLines is faultAddress of PersistLines.
func faultOfLines(e Entry) unsafe.Pointer {
	return faultOf(func() { PersistLines(e.Dst, e.Len) })
}

func faultOf(perform func()) (address unsafe.Pointer) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault, ok := recover().(interface{ Addr() uintptr }); ok {
			address = unsafe.Add(unsafe.Pointer(nil), fault.Addr())
		}
	}()
	perform()
	return nil
}

// threePages maps a page between two that must not be touched.
func threePages(t *testing.T) (media []byte, pageSizeBytes int) {
	pageSizeBytes = os.Getpagesize()
	media, err := syscall.Mmap(-1, 0, 3*pageSizeBytes,
		syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, syscall.Munmap(media)) })
	require.NoError(t, syscall.Mprotect(media[:pageSizeBytes], syscall.PROT_NONE))
	require.NoError(t, syscall.Mprotect(media[2*pageSizeBytes:], syscall.PROT_NONE))
	return media, pageSizeBytes
}

// TestWhichLinesAreTouched makes write-back visible: it faults like a load on
// a page that may not be read. So a range up to the edge of such a page must
// not fault, and one that has a single byte beyond must: neither a line too
// many is written back nor one too few.
func TestWhichLinesAreTouched(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		if method == methodCache || method == methodCVAC {
			t.Skip("no fault to be seen: no write-back, or (qemu's DC CVAC) an emulated one")
		}
		media, page := threePages(t)
		line := int(LineSizeBytes())
		end := page * 2
		for n := 1; n <= 4*line; n++ {
			for _, at := range []int{page, end - n} {
				v := [1]Entry{linesOf(media[at:][:n])}
				require.Nil(t, faultAddress(v[:]), "%d bytes at %d", n, at)
				require.Nil(t, faultOfLines(v[0]), "%d bytes at %d", n, at)
			}
			for inside := 0; inside <= n-1; inside += 7 {
				v := [1]Entry{linesOf(media[end-inside:][:n])}
				require.Equal(t, unsafe.Pointer(&media[end]), faultAddress(v[:]), "%d bytes, %d inside", n, inside)
				require.Equal(t, unsafe.Pointer(&media[end]), faultOfLines(v[0]), "%d bytes, %d inside", n, inside)
				v = [1]Entry{linesOf(media[page-n+inside:][:n])}
				first := (page - n + inside) / line * line
				require.Equal(t, unsafe.Pointer(&media[first]), faultAddress(v[:]), "%d bytes, %d inside", n, inside)
				require.Equal(t, unsafe.Pointer(&media[first]), faultOfLines(v[0]), "%d bytes, %d inside", n, inside)
			}
		}
	})
}

// TestFaultsCanBeRecovered: a mapping whose file was truncated, or whose
// medium has an error, gives the caller a panic, not a crash.
func TestFaultsCanBeRecovered(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		media, page := threePages(t)
		src := pattern(page)
		for _, n := range []int{1, 8, 16, 100, 2000} {
			forbidden := media[2*page:]
			v := [...]Entry{copyOf(media[page:], src[:n]), copyOf(forbidden, src[:n])}
			require.Equal(t, unsafe.Pointer(&forbidden[0]), faultAddress(v[:]), "store of %d bytes", n)
			require.Equal(t, src[:n], media[page:][:n], "what came before is done")
			v[0] = copyOf(media[page:], forbidden[:n])
			require.Equal(t, unsafe.Pointer(&forbidden[0]), faultAddress(v[:]), "load of %d bytes", n)
			v[0], v[1] = copyOf(media[page:], src[:n]), Entry{}
			require.Nil(t, faultAddress(v[:]), "all is well after a fault")
		}
	})
}
