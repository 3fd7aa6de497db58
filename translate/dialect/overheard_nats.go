package dialect

import (
	"cmp"
	"fmt"
)

// natsOverheard knows subscriptions by their sids. Nothing confirms them: they are taken to be there until an error says otherwise.
type natsOverheard struct {
	asked
	client, server natsParser
	admitted       bool // the session has had its PONG
}

// newNATSOverheard returns nil where a line is of JetStream's, which clients ask for in ways of their own.
func newNATSOverheard(o Options, lines []string) Overhearing {
	streams := false
	most := cmp.Or(o.MaxMessage, defaultBounds)
	n := &natsOverheard{client: natsParser{max: most, client: true}, server: natsParser{max: most}}
	n.asked = newAsked(lines, func(line string) (string, error) {
		l, err := natsSubscription(line)
		streams = streams || l.stream != ""
		return l.subject, err
	})
	if streams {
		return nil
	}
	return n
}

func (n *natsOverheard) Client(f Frame) {
	n.client.feed(f.Data)
	for !n.over {
		op, ok, err := n.client.next()
		if n.over = err != nil; !ok || err != nil {
			return
		}
		fields := natsWords(op.rest)
		switch {
		case op.verb == "SUB" && len(fields) == 2: // three with a queue group, which gets a part
			n.ask(fields[1], n.lines[fields[0]], true)
		case op.verb == "UNSUB" && len(fields) == 1:
			n.forget(fields[0])
		}
	}
}

func (n *natsOverheard) Server(f Frame) (frames []Frame) {
	n.server.feed(f.Data)
	for !n.over {
		op, ok, err := n.server.next()
		if n.over = err != nil; !ok || err != nil {
			break
		}
		if text := n.said(op); text != nil {
			frames = append(frames, Frame{Binary: true, Data: text})
		}
	}
	return frames
}

// said is what the session is to be given in the place of one line of the server's; nil: nothing.
func (n *natsOverheard) said(op natsOp) []byte {
	switch op.verb {
	case "INFO":
		if n.admitted {
			return nil
		}
		n.admitted, n.open = true, true
		return []byte("INFO " + op.rest + "\r\nPONG\r\n")
	case "MSG", "HMSG":
		line := n.lineOf(op.sid)
		if line == "" || op.over {
			return nil
		}
		head := ""
		if op.verb == "HMSG" {
			head = fmt.Sprint(len(op.body)-len(op.payload), " ")
		}
		text := fmt.Appendf(nil, "%s %s %s %s%d\r\n", op.verb, op.subject, line, head, len(op.body))
		return append(append(text, op.body...), "\r\n"...)
	}
	return nil
}
