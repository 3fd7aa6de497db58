//go:build !linux || portable

package wsconn

// watch is not possible: readers wait.
func (c *Conn) watch() bool { return false }

func (c *Conn) unwatch() {}
