package h2

import "fmt"

// broken says what does not hold of what the package's comment says always does, "" for nothing. mu is held.
func (c *Conn) broken() string {
	if c.closed {
		return ""
	}
	var waiting int64
	frames := map[*Stream]int32{}
	for _, h := range c.held {
		if h.frame.kind == frameData {
			waiting += int64(len(h.payload))
		}
		if h.stream != nil {
			frames[h.stream]++
		}
	}
	adopted := 0
	for id, s := range c.streams {
		switch {
		case s.id != id:
			return fmt.Sprintf("stream %d is known as %d", s.id, id)
		case s.held < frames[s]:
			return fmt.Sprintf("stream %d has %d frames waiting, and counts %d", id, frames[s], s.held)
		case s.adopted && s.window > largestWindow:
			return fmt.Sprintf("the window of stream %d is %d", id, s.window)
		case s.adopted:
			adopted++
		}
	}
	switch {
	case c.granted+c.waiting != c.avail+c.owed:
		return fmt.Sprintf("granted %d + waiting %d is not avail %d + owed %d", c.granted, c.waiting, c.avail, c.owed)
	case c.avail < 0 || c.waiting < 0 || c.owed < 0:
		return fmt.Sprintf("avail %d, waiting %d, owed %d", c.avail, c.waiting, c.owed)
	case c.avail > largestWindow || c.granted > largestWindow:
		return fmt.Sprintf("avail %d, granted %d", c.avail, c.granted)
	case c.waiting != waiting:
		return fmt.Sprintf("%d bytes wait, and waiting is %d", waiting, c.waiting)
	case c.adopted != adopted:
		return fmt.Sprintf("%d streams are adopted, and %d counted", adopted, c.adopted)
	}
	return ""
}
