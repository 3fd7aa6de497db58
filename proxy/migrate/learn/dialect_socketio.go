package learn

import (
	"cmp"
	"slices"
	"strings"
)

// engineIO are the names that Engine.IO itself puts into the query.
func isEngineIO(name string) bool {
	return name == "EIO" || name == "transport" || name == "sid" || name == "t" || name == "b64"
}

// packet is a Socket.IO packet in an Engine.IO message: 4, type, attachments-, namespace, id, JSON.
var packet = lazily(`^4([0-6])(?:[0-9]+-)?(/[^,]*)?,?([0-9]+)?(.*)$`)

// readSocketIO reads:
//
//	40[/ns,][{auth}]   CONNECT; the older protocol has auth in the namespace's query, and no packet for /
//	42[/ns,][id]["name",..]  EVENT
//	2probe, 3probe, 5  a connection that began with polling
func readSocketIO(c *Conversation) (s speech) {
	r := socketIO{conv: c}
	for _, f := range c.Frames {
		text := string(f.Data)
		r.polled = r.polled || f.FromClient && text == "2probe"
		if m := packet.FindStringSubmatch(strings.ReplaceAll(text, "\n", " ")); m != nil && !f.Binary {
			r.packet(&s, f, m[1], cmp.Or(m[2], "/"), m[4])
		}
	}
	if r.polled {
		s.notes = append(s.notes, "the connection began with polling, where what the client connects with is not seen: if the page gives auth, write CONNECT")
	}
	if r.main && len(r.spaces) > 0 && !slices.Contains(r.spaces, "/") {
		r.spaces = append([]string{"/"}, r.spaces...)
	}
	for _, space := range r.spaces {
		if len(r.spaces) > 1 || space != "/" {
			s.add(subscribes, space, "")
		}
	}
	return s
}

// socketIO is what was read of a connection.
type socketIO struct {
	conv   *Conversation
	polled bool     // it began with polling
	main   bool     // there are events in /, which nobody has to ask for in the older protocol
	spaces []string // namespaces, as they were asked for
}

func (r *socketIO) packet(s *speech, f Frame, kind, space, data string) {
	switch {
	case f.FromClient && kind == "0":
		r.spaces = append(r.spaces, space)
		if data != "" {
			s.add(connects, "", data)
		}
	case f.FromClient && kind == "2" && early(r.conv, f):
		s.add(says, prefixOf(space), data)
	case !f.FromClient && kind == "2" && space == "/" && !r.polled:
		r.main = true
	case !f.FromClient && kind == "2" && r.polled && !slices.Contains(r.spaces, space):
		r.spaces = append(r.spaces, space)
	}
}

// prefixOf is what stands before an event of a namespace.
func prefixOf(space string) string {
	if space == "/" {
		return ""
	}
	return space
}

// early reports whether the client sent f to begin with.
func early(c *Conversation, f Frame) bool {
	begin := c.At
	if begin.IsZero() && len(c.Frames) > 0 {
		begin = c.Frames[0].At
	}
	return f.At.Sub(begin) <= openingWithin
}

func writeSocketIO(kind, head, doc string) string {
	if kind == says && head != "" {
		return head + "," + doc
	}
	return strings.TrimSpace(head + doc)
}
