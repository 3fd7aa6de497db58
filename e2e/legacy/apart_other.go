//go:build !linux

package legacy

import "syscall"

func apart() *syscall.SysProcAttr { return nil }
