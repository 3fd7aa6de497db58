package wsconn

// Doze has wake called once there is something to be read, or the connection is closed, so that until then nobody has to wait in Reader. It returns false
// where one can as well read now, or has to wait in Reader after all: within a message, or where the system cannot tell (TLS). wake must not block; it may be
// called before Doze has returned. Only the reader calls it, and does not read before it is woken.
func (c *Conn) Doze(wake func()) bool {
	if c.raw == nil || c.inside || !c.enter(&c.reading) {
		return false
	}
	defer c.leave(&c.reading)
	for {
		for c.in.len() > 0 {
			if !c.control() {
				return false
			}
		}
		c.answer()
		c.release()
		if dozes, may := c.sleeps(wake); dozes || !may {
			return dozes
		}
		if !c.peek() {
			return false
		}
	}
}

// sleeps has wake called as Doze says, where all is read that there was. may: else there is more, and it can be read.
func (c *Conn) sleeps(wake func()) (dozes, may bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.hung || c.watched < 0 && !c.watch() {
		return false, false
	}
	if c.drained && !c.ready {
		c.wake = wake
		return true, true
	}
	c.ready = false
	return false, true
}

// control takes a ping or a pong that stands first in the buffer, and reports whether one does.
func (c *Conn) control() bool {
	b := c.in.data[c.in.start:c.in.end]
	if len(b) < 2 || b[0] != 0x80|opPing && b[0] != 0x80|opPong || b[1] > maxControl || len(b) < 2+int(b[1]) {
		return false
	}
	payload := b[2 : 2+int(b[1])]
	c.in.start += 2 + len(payload)
	c.heard(b[0]&0xf, payload)
	return true
}

// peek reads what there is, if there is anything. It returns false at the end of the connection, which Reader then tells.
func (c *Conn) peek() bool {
	err := c.raw.Read(func(fd uintptr) bool {
		c.try(fd)
		return true
	})
	return err == nil && c.got == nil
}

// awaken lets the reader know that there is something to be read; hung: its end, too, which is said only once.
func (c *Conn) awaken(hung bool) {
	c.mu.Lock()
	c.hung = c.hung || hung
	wake := c.wake
	c.wake = nil
	c.ready = true
	c.mu.Unlock()
	if wake != nil {
		wake()
	}
}
