//go:build linux && !portable && !race

package wsconn

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// readBriskly is read(2) of a descriptor that does not block, past the runtime.
func readBriskly(fd int, p []byte) (int, error) {
	n, _, err := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}
