//go:build unix

package history

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// take locks the folder, for as long as the process lives.
func (f *Folder) take() error {
	file, err := os.OpenFile(f.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("the folder %s cannot be used: %w", f.Dir, plain(err))
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("the folder %s is another process's; give each sidecar a folder of its own, or wait until the other has ended", f.Dir)
		}
		return fmt.Errorf("the folder %s cannot be locked: %w", f.Dir, err)
	}
	f.lock = file
	return nil
}
