//go:build !unix || portable

package wsconn

import "syscall"

// rawConn is none: reading waits.
func (c *Conn) rawConn() syscall.RawConn { return nil }

func (c *Conn) await() error { return nil }

// gone is not to be known.
func (c *Conn) gone() bool { return false }
