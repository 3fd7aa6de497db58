package upstream

import (
	"errors"
	"net/url"
	"strconv"
	"strings"

	"sidestream/translate/dialect"
)

// keepalive is PING, PING_EVERY and PONG.
func (c *compiler) keepalive() {
	s, rt := c.s, c.rt
	c.entry(entry{setting: "PING"}, s.Ping, inText())
	rt.pingEvery = c.code("PING_EVERY", "PING_EVERY", s.PingProgram)
	rt.pong = c.asking("PONG", "PONG", s.Pong)
	if s.PingProgram != "" && (s.Ping == "" || s.State == "") {
		c.bad("PING_EVERY", "a program computes from $state how often PING is sent; set PING and STATE too, or write a duration such as 30s")
	}
	if s.Pong != "" && s.Ping == "" {
		c.bad("PONG", "waits for the answer to PING, which is not set; set it, or unset PONG")
	}
}

// memory is what outlives a connection, and what its end means.
func (c *compiler) memory() {
	s, rt := c.s, c.rt
	rt.state = c.code("STATE", "STATE", s.State)
	rt.resumed = c.asking("RESUMED", "RESUMED", s.Resumed)
	if s.Resumed != "" && (s.State == "" || !c.waits()) {
		c.bad("RESUMED", "looks at the opening's messages, with what STATE remembers; set STATE, and have a line in HELLO that waits (< jq)")
	}
	var err error
	if rt.closing, err = dialect.ParseClose(s.Close); err != nil {
		c.bad("CLOSE", "%v", err)
	}
	if s.Separator != "" && c.rawOnly("SEPARATOR") {
		if rt.separator, err = unescape(s.Separator); err != nil {
			c.bad("SEPARATOR", "%v", err)
		}
	}
}

// waits reports whether HELLO has a line that waits.
func (c *compiler) waits() bool {
	for _, st := range c.rt.steps {
		if st.mark == '<' {
			return true
		}
	}
	return false
}

// rawOnly reports whether the route speaks raw, else notes that setting does not belong here.
func (c *compiler) rawOnly(setting string) bool {
	if c.s.Protocol != "raw" && c.rt.dialect.New != nil {
		c.bad(setting, "is for PROTOCOL=raw; %s has its own way, unset it", c.s.Protocol)
		return false
	}
	return true
}

// maxSeparator bounds SEPARATOR, in bytes.
const maxSeparator = 8

// unescape reads a text with Go's escapes, such as \n or \x1e.
func unescape(text string) (string, error) {
	var out []byte
	for rest := text; rest != ""; {
		r, multibyte, tail, err := strconv.UnquoteChar(rest, 0)
		if err != nil {
			return "", errors.New(`contains an escape that Go does not have; write it like \n, \t or \x1e`)
		}
		if rest = tail; multibyte {
			out = append(out, string(r)...)
		} else {
			out = append(out, byte(r))
		}
	}
	if len(out) > maxSeparator {
		return "", errors.New(`is longer than 8 bytes; write what ends a record, such as \n or \x1e`)
	}
	return string(out), nil
}

// ticket is TICKET and DIAL.
func (c *compiler) ticket() {
	s, rt := c.s, c.rt
	if s.Dial != "" && c.rawOnly("DIAL") {
		rt.toDial = c.code("DIAL", "DIAL", s.Dial)
		if s.Ticket == "" && s.State == "" {
			c.bad("DIAL", "reads the answer to TICKET or what STATE remembers, and neither is set; set one, or write the address in FROM")
		}
	}
	if s.Ticket == "" || !c.rawOnly("TICKET") {
		return
	}
	if s.Dial == "" {
		c.bad("TICKET", "has an answer that nothing reads; set DIAL to jq that yields the address, such as .url")
	}
	method, target := "POST", s.Ticket
	if first, rest, two := strings.Cut(s.Ticket, " "); two && !strings.Contains(first, "://") {
		method, target = first, strings.TrimSpace(rest)
	}
	if !methodToken.MatchString(method) || method == "CONNECT" {
		c.bad("TICKET", "has something other than a method before the address; write it like GET https://host/path")
		return
	}
	if scheme, _, _ := strings.Cut(target, "://"); scheme != "http" && scheme != "https" || strings.Contains(target, "#") {
		c.bad("TICKET", "is not an address to request; write [METHOD ]http://host/path or https://, without #")
		return
	}
	if u, err := url.Parse(replaced(target, "x")); err != nil || u.Hostname() == "" {
		c.bad("TICKET", "is not an address to request; write [METHOD ]http://host/path or https://, without #")
	}
	rt.ticketMethod = method
	c.entry(entry{setting: "TICKET", field: addressField}, target, inURL())
}
