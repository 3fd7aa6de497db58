package upstream

import (
	"errors"
	"strings"

	"sidestream/translate/dialect"
)

// subscriptions are CONNECT and SUBSCRIBE, of which the dialect knows what they have to look like.
func (c *compiler) subscriptions() {
	s, d := c.s, c.rt.dialect
	if d.New == nil {
		return // no dialect, which is said already
	}
	if c.rt.Polls() && d.Name != "raw" {
		c.bad("PROTOCOL", "%s is spoken over WebSockets, but FROM polls; begin FROM with ws:// or wss://, or unset PROTOCOL", d.Name)
		return
	}
	if s.Connect != "" && !d.Connects {
		c.bad("CONNECT", "%s has no connection payload; unset it", d.Name)
	}
	lines := dialect.SplitLines(s.Subscribe)
	switch {
	case len(lines) > 0 && d.Subscribes == dialect.NoSubscribe:
		c.bad("SUBSCRIBE", "%s has no subscriptions of its own; unset it, and write what to send in HELLO", d.Name)
	case len(lines) == 0 && d.Required && s.Face != FaceGraphQL:
		c.bad("SUBSCRIBE", "%s needs to know what to subscribe to; write one subscription per line", d.Name)
	}
	c.entry(entry{setting: "CONNECT"}, s.Connect, inText())
	plain := make([]string, len(lines))
	for i, line := range lines {
		c.entry(entry{setting: "SUBSCRIBE"}, line, inLine(d.Subscribes, line))
		plain[i] = replaced(line, "0")
	}
	if len(c.problems) == 0 && d.Check != nil {
		c.checked(d.Check(replaced(s.Connect, "0"), plain))
	}
}

// clientID sees to it that streams which differ do not call themselves the same.
func (c *compiler) clientID() {
	named := c.rt.dialect.ClientID
	if named == nil || c.rt.Shared() {
		return
	}
	filled := func(value string) string { return named(replaced(c.s.Connect, value)) }
	if one := filled("0"); one != "" && one == filled("1") {
		c.bad("CONNECT", "the clientId is the same in the streams of clients that do not share one, and the broker lets only one of them be connected, with a session that may hold another's messages; put what tells them apart (%s) into it, or leave it out", strings.Join(c.rt.Needs(), ", "))
	}
}

// checked notes what a dialect says of its settings.
func (c *compiler) checked(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			c.checked(err)
		}
		return
	}
	var e *dialect.CheckError
	switch {
	case errors.As(err, &e):
		c.bad(e.Setting, "%s", e.Problem)
	case err != nil:
		c.bad("SUBSCRIBE", "%v", err)
	}
}
