package legacy

import "syscall"

// apart keeps Ctrl-C from a child, which is ended in its turn, and ends it with this process.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
