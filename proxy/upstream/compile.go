// This file makes a Route of its Settings. What is wrong is said all at once, each problem with the setting and the fix.

package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sidestream/proxy/outbound"
	"sidestream/translate"
	"sidestream/translate/dialect"
)

// Compile checks s. Its error joins (errors.Join) one *[SettingError] for each problem found.
func Compile(s SourceSettings) (*Route, error) {
	c := compiler{rt: &Route{Stats: new(Stats), settings: s}, s: &s}
	c.defaults()
	c.rt.from = s.From
	c.sockets()
	c.from()
	c.headers()
	c.subscriptions()
	c.operation()
	c.hello()
	c.keepalive()
	c.memory()
	c.decode()
	c.ticket()
	c.cursor()
	c.entry(entry{setting: "BODY"}, s.Body, c.bodyPlace())
	c.forward()
	if s.Session {
		c.add(entry{setting: "SCOPE", field: noField, template: template{[]part{{kind: "session"}}}})
	}
	c.runs()
	c.programs()
	c.usesCursor()
	c.clientID()
	c.rt.settings = s
	if s.Network != (outbound.Settings{}) {
		c.rt.own = &pools{newClient(s.Network, false), newClient(s.Network, true)}
	}
	c.rt.display, _ = compile(c.rt.From(), s.PathNames, s.Secrets, func(string, bool) escape { return segment }) // what is wrong in it is said already
	c.rt.enliven()
	for _, e := range c.rt.table {
		e.fixed = e.template.fixed()
	}
	return c.rt, errors.Join(c.problems...)
}

type compiler struct {
	rt       *Route
	s        *SourceSettings
	problems []error
}

func (c *compiler) bad(setting, format string, args ...any) {
	c.problems = append(c.problems, &SettingError{setting, fmt.Sprintf(format, args...)})
}

func (c *compiler) template(setting, text string, at place) template {
	t, err := compile(text, c.s.PathNames, c.s.Secrets, at)
	if err != nil {
		c.bad(setting, "%v", err)
	}
	for _, p := range t.parts {
		if claim := unknownClaim(p, c.s.Claims); claim != "" {
			c.bad(setting, "{auth.%s} is not in AUTH_CLAIMS, which names what is taken from the client's authentication; add %[1]s there, and set AUTH", claim)
			break
		}
		if p.kind == "state" && c.s.State == "" {
			c.bad(setting, "%s is filled in by STATE, which is not set; set it to jq that yields {%s: ...}", p.text(), p.name)
			break
		}
	}
	return t
}

// keeps are the programs whose results get into names, ids, and what is kept of a stream.
var keeps = []string{"EVENT", "ID", "KEY", "STATE", "CURSOR"}

func (c *compiler) code(setting, label, src string) *translate.Code {
	if src == "" {
		return nil
	}
	code, err := c.s.Secrets.CompileJQ(label, src)
	if err != nil {
		c.bad(setting, "%v", err)
		return code
	}
	c.rt.timed = c.rt.timed || code.Timed()
	if code.Confides() && slices.Contains(keeps, setting) {
		c.bad(setting, "names a secret, and what it yields is kept or shown to clients; secrets are for what is sent to the upstream: HELLO, REPLY, DIAL and {= } in templates")
	}
	return code
}

// reading is a program that must look at what it is given.
func (c *compiler) reading(setting, label, src string) *translate.Code {
	code := c.code(setting, label, src)
	if code != nil && code.Constant() {
		if label == setting {
			label = "it"
		}
		c.bad(setting, `%s is %s, whatever comes in; write what it reads, such as .type or .type=="price"`, label, src)
	}
	return code
}

// asking is a program that must look at what it is given, and is asked whether something is so.
func (c *compiler) asking(setting, label, src string) *translate.Code {
	code := c.reading(setting, label, src)
	if code == nil {
		return nil
	}
	if err := code.Asks(); err != nil && label != setting {
		c.bad(setting, "%s %v", label, err)
	} else if err != nil {
		c.bad(setting, "%v", err)
	}
	return code
}

var methodToken = regexp.MustCompile("^[A-Z]+$")

func (c *compiler) defaults() {
	s := c.s
	fill := func(value *string, fallback string) {
		if *value == "" {
			*value = fallback
		}
	}
	fill(&s.Protocol, "raw")
	if s.Cursor != "" {
		fill(&s.Mode, ModeEvery)
	}
	fill(&s.Mode, ModeChanges)
	if s.Pages == 0 {
		s.Pages = 1
		if s.Next != "" {
			s.Pages = 20
		}
	}
	fill(&s.Binary, dialect.BinaryBase64)
	method := http.MethodGet
	if s.Body != "" {
		method = http.MethodPost
	}
	fill(&s.Method, method)
	var err error
	if c.rt.dialect, err = dialect.Find(s.Protocol); err != nil {
		c.bad("PROTOCOL", "%v", err)
	}
	c.oneOf("MODE", s.Mode, ModeChanges, ModeEvery, ModeItems, ModePatch, ModeStream)
	if s.Format != "" {
		c.oneOf("FORMAT", s.Format, translate.FormatEvents, translate.FormatLines, translate.FormatJSON)
	}
	c.oneOf("BINARY", s.Binary, dialect.BinaryBase64, dialect.BinaryText, dialect.BinaryDrop)
	if !methodToken.MatchString(s.Method) || s.Method == http.MethodConnect {
		c.bad("METHOD", "%q is not a method; write it in capital letters, such as POST", s.Method)
	}
}

func (c *compiler) oneOf(setting, value string, known ...string) {
	if !slices.Contains(known, value) {
		c.bad(setting, "%q is not known; write one of %s", value, strings.Join(known, ", "))
	}
}

// sockets makes addresses on a Unix socket those of a service called localhost, which the route's connections find there.
func (c *compiler) sockets() {
	s := c.s
	for _, one := range []struct {
		setting string
		address *string
	}{{"FROM", &s.From}, {"FIRST", &s.First}, {"TICKET", &s.Ticket}} {
		method, address := "", *one.address
		if first, rest, two := strings.Cut(address, " "); two && one.setting == "TICKET" {
			method, address = first+" ", strings.TrimSpace(rest)
		}
		socket, plain, err := outbound.SplitSocket(address)
		switch {
		case err != nil:
			c.bad(one.setting, "%v", err)
			scheme, _, _ := strings.Cut(address, "+unix")
			*one.address = method + scheme + "://localhost/" // what else is wrong with it is said once that is mended
		case socket == "":
			continue
		case one.setting == "FROM":
			s.Network.Socket = socket
			c.add(entry{setting: "SOCKET", field: noField, template: literal(socket)})
		case socket != s.Network.Socket:
			c.bad(one.setting, "is on another Unix socket than FROM; a route has one, write it there too, or an http:// address")
		}
		if err == nil {
			*one.address = method + plain
		}
	}
}

func (c *compiler) from() {
	if MergedNames(c.s.From) != nil {
		return // whose names are for who knows the routes
	}
	scheme, _, _ := strings.Cut(c.s.From, "://")
	if strings.HasPrefix(scheme, "redis") {
		c.redis()
		return
	}
	if !slices.Contains([]string{"ws", "wss", "http", "https"}, scheme) {
		c.bad("FROM", "must begin with ws://, wss://, http://, https:// or redis://, or on a Unix socket with ws+unix:// or http+unix://")
		return
	}
	if strings.Contains(replaced(c.s.From, "x"), "#") {
		c.bad("FROM", "contains a #; an upstream never sees what follows it, so leave it out (in a value write %%23)")
	}
	c.entry(entry{setting: "FROM", field: addressField}, c.s.From, inURL())
	// Every placeholder is replaced by something harmless, to see whether the rest is an address.
	u, err := url.Parse(replaced(c.s.From, "x"))
	if err != nil || u.Host == "" || u.Hostname() == "" {
		c.bad("FROM", "is not an address; write it as scheme://host[:port]/path")
	} else if port := u.Port(); port != "" && !isPort(port) {
		c.bad("FROM", "has a port that is none; write 1 to 65535, or leave it out")
	}
}

// isPort reports whether something may listen there.
func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// hopByHop are the headers of one connection, which are ours to set, in canonical form.
var hopByHop = []string{"Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions", "Sec-Websocket-Protocol", "Sec-Websocket-Accept"}

var headerToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// header returns name in canonical form, or "" with the problem noted.
func (c *compiler) header(setting, name string) string {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !headerToken.MatchString(name):
		c.bad(setting, "contains an invalid header name; write one Name: value per line in HEADERS, names with commas in FORWARD")
	case canonical == "Sec-Websocket-Protocol":
		c.bad(setting, "%s is set by SUBPROTOCOL", name)
	case slices.Contains(hopByHop, canonical):
		c.bad(setting, "%s belongs to the connection and is set by the sidecar; leave it out", name)
	default:
		return canonical
	}
	return ""
}

func (c *compiler) headers() {
	for line := range strings.Lines(c.s.Headers) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			c.bad("HEADERS", "a line has no colon; write one Name: value per line")
			continue
		}
		value = strings.TrimSpace(value)
		written := name
		if name = c.header("HEADERS", name); name == "" {
			continue
		}
		c.rt.spell(name, written)
		if _, err := headerValue(replaced(value, "")); err != nil {
			c.bad("HEADERS", "the value of %s %v", name, err)
		}
		c.add(entry{setting: "HEADERS", header: name, field: headerField, template: c.template("HEADERS", value, inHeader)})
	}
}

func (c *compiler) forward() {
	for _, name := range c.s.Forward {
		switch canonical := c.header("FORWARD", strings.TrimSpace(name)); canonical {
		case "":
		case "Host", "Accept-Encoding":
			c.bad("FORWARD", "%s cannot be forwarded; set it in HEADERS if the upstream needs one", canonical)
		default:
			c.add(entry{setting: "FORWARD", header: canonical, field: headerField, template: template{[]part{{kind: "forward", name: canonical}}}})
		}
	}
}
