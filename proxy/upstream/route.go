package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// Settings are the texts of one route whose syntax this package and translate own. Durations and sizes are taken as they
// are; an empty text means the default of the environment table.
type Settings struct {
	PathNames   []string // the wildcards of the route's PATH, for {path.NAME}
	From        string
	FromFile    bool   // FROM was read from a file, since it holds a secret: its path is not shown
	Headers     string // one "Name: value" a line
	Forward     []string
	Protocol    string // "" raw
	Connect     string
	Subscribe   string // one subscription a line
	Subprotocol []string
	Hello       string
	Reply       string
	Ping        string
	PingEvery   time.Duration // 0 never
	PingProgram string        // jq that yields milliseconds, instead of PingEvery
	Pong        string
	State       string
	Resumed     string
	Ticket      string
	Dial        string
	Close       string
	Separator   string        // with Go's escapes
	Idle        time.Duration // 0 never
	Every       time.Duration // 0 at once after each answer
	Mode        string        // "" changes, or every with CURSOR
	Cursor      string
	First       string // "" From
	Next        string
	Pages       int // 0 is 1, or 20 with Next
	Reset       string
	Refused     string
	Status      string
	Interval    string
	Format      string // of MODE=stream; "" by type, then first bytes
	Key         string
	Method      string
	Body        string
	Timeout     time.Duration // 0 none
	Select      string
	Event       string
	Data        string
	ID          string
	Done        string
	Binary      string // "" base64
	MaxMessage  int    // bytes
	MaxValue    int    // bytes of one value of a client's in a template; 0: 16 KiB
	NoCookies   bool   // what answers set is forgotten

	// Reread returns the settings when those of them that stand in files have changed since it was called last, else nil. It is not
	// called by two at once. Nil: none stands in a file.
	Reread  func() (*Settings, error)
	Session bool // each ?session= has an upstream of its own
}

// SettingError says what is wrong with one setting.
type SettingError struct {
	Setting string // the last part of the environment name, e.g. FROM
	Problem string // what is wrong, with the fix; holds no secret
}

func (e *SettingError) Error() string { return fmt.Sprintf("%s: %s", e.Setting, e.Problem) }

// What a poll emits (MODE).
const (
	ModeChanges = "changes" // when the translated result differs from the last one
	ModeEvery   = "every"   // always
	ModeItems   = "items"   // the list's new elements
	ModePatch   = "patch"   // a snapshot, then RFC 6902 patches
	ModeStream  = "stream"  // no poll: an answer that never ends
)

// Route is a compiled route: it makes a client's request into an upstream request. Safe for concurrent use.
type Route struct {
	// Stats counts what all sources of the route meet.
	Stats Stats

	order listOrder // of its list, with MODE=items

	only atomic.Pointer[Request] // what Expand makes of every client's request, once it has turned out to use nothing of it

	settings                           Settings
	dialect                            dialect.Dialect
	table                              []*entry // see table.go
	display                            template // of From, in which values of the path are filled in
	begins                             bool     // with FIRST while there is no cursor
	steps                              []step
	reply                              *translate.Code
	cursor, next, reset, interval, key *translate.Code
	refused                            *translate.Code
	forgets                            bool // RESET is true of no answer
	statuses                           statuses
	program                            translate.Program
	noisy                              quiet             // programs that fail
	spelling                           map[string]string // of header names, by canonical name
	plain                              hosts             // whose compression cannot be read
	files                              files             // that settings stand in

	// What a feed asks for beside messages: see feed.go.
	state, resumed, pingEvery, pong, toDial *translate.Code
	closing                                 dialect.ClosePolicy
	ticketMethod                            string // "" no TICKET
	separator                               string
}

// step is a line of HELLO; code is set unless it sends, which the table knows what.
type step struct {
	mark byte
	code *translate.Code
}

// Polls says that the route asks over HTTP rather than subscribing over a WebSocket.
func (rt *Route) Polls() bool { return strings.HasPrefix(rt.settings.From, "http") }

// Follows says that it asks once, for an answer that never ends.
func (rt *Route) Follows() bool { return rt.Polls() && rt.settings.Mode == ModeStream }

// From is where the events come from, fit for logs. See [Redact].
func (rt *Route) From() string { return redact(rt.settings.From, rt.settings.FromFile) }

// Compile checks s. Its error joins (errors.Join) one *[SettingError] for each problem found.
func Compile(s Settings) (*Route, error) {
	c := compiler{rt: &Route{settings: s}, s: &s}
	c.defaults()
	c.from()
	c.headers()
	c.subscriptions()
	c.hello()
	c.keepalive()
	c.memory()
	c.ticket()
	c.cursor()
	c.entry(entry{setting: "BODY"}, s.Body, c.bodyPlace())
	c.forward()
	if s.Session {
		c.add(entry{setting: "SCOPE", field: noField, template: template{[]part{{kind: "session"}}}})
	}
	c.programs()
	c.usesCursor()
	c.clientID()
	c.rt.settings = s
	c.rt.display, _ = compile(c.rt.From(), s.PathNames, func(string, bool) escape { return segment }) // what is wrong in it is said already
	c.rt.enliven()
	return c.rt, errors.Join(c.problems...)
}

type compiler struct {
	rt       *Route
	s        *Settings
	problems []error
}

func (c *compiler) bad(setting, format string, args ...any) {
	c.problems = append(c.problems, &SettingError{setting, fmt.Sprintf(format, args...)})
}

func (c *compiler) template(setting, text string, at place) template {
	t, err := compile(text, c.s.PathNames, at)
	if err != nil {
		c.bad(setting, "%v", err)
	}
	for _, p := range t.parts {
		if p.kind == "state" && c.s.State == "" {
			c.bad(setting, "%s is filled in by STATE, which is not set; set it to jq that yields {%s: ...}", p.text(), p.name)
			break
		}
	}
	return t
}

func (c *compiler) code(setting, label, src string) *translate.Code {
	if src == "" {
		return nil
	}
	code, err := translate.CompileJQ(label, src)
	if err != nil {
		c.bad(setting, "%v", err)
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
		c.bad("METHOD", "%q is no method; write it in capital letters, e.g. POST", s.Method)
	}
}

func (c *compiler) oneOf(setting, value string, known ...string) {
	if !slices.Contains(known, value) {
		c.bad(setting, "%q is not known; write one of %s", value, strings.Join(known, ", "))
	}
}

func (c *compiler) from() {
	scheme, _, _ := strings.Cut(c.s.From, "://")
	if !slices.Contains([]string{"ws", "wss", "http", "https"}, scheme) {
		c.bad("FROM", "must begin with ws://, wss://, http:// or https://")
		return
	}
	if strings.ContainsAny(c.s.From, "#") {
		c.bad("FROM", "holds a # ; an upstream never sees what is behind it, so leave it out (in a value write %%23)")
	}
	c.entry(entry{setting: "FROM", field: addressField}, c.s.From, inURL())
	// Every placeholder is replaced by something harmless, to see whether the rest is an address.
	u, err := url.Parse(placeholder.ReplaceAllString(c.s.From, "x"))
	if err != nil || u.Host == "" || u.Hostname() == "" {
		c.bad("FROM", "is no address; write it as scheme://host[:port]/path")
	}
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
		c.bad(setting, "holds what is no header name; write one Name: value a line in HEADERS, names with commas in FORWARD")
	case canonical == "Sec-Websocket-Protocol":
		c.bad(setting, "%s is set by SUBPROTOCOL", name)
	case slices.Contains(hopByHop, canonical):
		c.bad(setting, "%s belongs to the connection and is the sidecar's own; leave it out", name)
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
			c.bad("HEADERS", "a line has no colon; write one Name: value a line")
			continue
		}
		value = strings.TrimSpace(value)
		written := name
		if name = c.header("HEADERS", name); name == "" {
			continue
		}
		c.rt.spell(name, written)
		if _, err := headerValue(placeholder.ReplaceAllString(value, "")); err != nil {
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
	case len(lines) == 0 && d.Required:
		c.bad("SUBSCRIBE", "%s needs to know what to subscribe to; write one subscription a line", d.Name)
	}
	c.entry(entry{setting: "CONNECT"}, s.Connect, inText())
	plain := make([]string, len(lines))
	for i, line := range lines {
		c.entry(entry{setting: "SUBSCRIBE"}, line, inLine(d.Subscribes, line))
		plain[i] = placeholder.ReplaceAllString(line, "0")
	}
	if len(c.problems) == 0 && d.Check != nil {
		c.checked(d.Check(placeholder.ReplaceAllString(s.Connect, "0"), plain))
	}
}

// clientID sees to it that streams which differ do not call themselves the same.
func (c *compiler) clientID() {
	named := c.rt.dialect.ClientID
	if named == nil || c.rt.Shared() {
		return
	}
	filled := func(value string) string { return named(placeholder.ReplaceAllString(c.s.Connect, value)) }
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

func (c *compiler) hello() {
	marks, lines := dialect.SplitHello(c.s.Hello)
	for i, mark := range marks {
		st := step{mark: mark}
		compiled := c.reading
		if mark == '=' {
			compiled = c.code // it reads nothing but the state
		}
		if mark == '>' {
			c.add(entry{setting: "HELLO", template: c.template("HELLO", lines[i], inText())})
		} else if lines[i] == "" {
			c.bad("HELLO", "line %d: a jq program is missing behind %c", i+1, mark)
		} else {
			st.code = compiled("HELLO", fmt.Sprintf("HELLO line %d", i+1), lines[i])
		}
		c.rt.steps = append(c.rt.steps, st)
	}
}

// cursor is what the answer to a poll may say of the next one.
func (c *compiler) cursor() {
	s, rt := c.s, c.rt
	rt.cursor = c.reading("CURSOR", "CURSOR", s.Cursor)
	if rt.reset = c.reading("RESET", "RESET", s.Reset); rt.reset != nil {
		rt.forgets = forgetful(rt.reset)
	}
	rt.refused = c.reading("REFUSED", "REFUSED", s.Refused)
	var err error
	if rt.statuses, err = parseStatuses(s.Status); err != nil {
		c.bad("STATUS", "%v", err)
	}
	rt.next = c.code("NEXT", "NEXT", s.Next)
	rt.interval = c.code("INTERVAL", "INTERVAL", s.Interval)
	if s.First != "" {
		rt.begins = true
		c.entry(entry{setting: "FIRST", field: addressField}, s.First, inURL())
		if scheme, _, _ := strings.Cut(s.First, "://"); scheme != "http" && scheme != "https" {
			c.bad("FIRST", "must begin with http:// or https://")
		}
	}
	if s.Cursor == "" {
		for _, other := range [][2]string{{"FIRST", s.First}, {"RESET", s.Reset}} {
			if other[1] != "" && !(other[0] == "RESET" && s.Mode == ModeStream) { // which may go on from Last-Event-ID
				c.bad(other[0], "is for a poll with a CURSOR; set that, or unset it")
			}
		}
	}
	if s.Next != "" && s.Pages == 1 {
		c.bad("NEXT", "finds pages, but PAGES is 1; set that higher, or unset NEXT")
	}
	if s.Mode == ModeStream && (s.Pages > 1 || s.Interval != "") {
		c.bad("MODE", "stream reads one answer that never ends; unset PAGES, NEXT and INTERVAL")
	}
	if s.Mode == ModePatch && (s.Pages > 1 || s.Cursor != "") {
		c.bad("MODE", "patch compares whole documents, which come neither in pages nor behind a CURSOR; unset PAGES, NEXT and CURSOR")
	}
}

// bodyPlace tells how values are written in BODY: as its content type has it.
func (c *compiler) bodyPlace() place {
	if c.contentType() == "application/x-www-form-urlencoded" {
		return inForm
	}
	return inText()
}

var formBody = regexp.MustCompile(`^[A-Za-z0-9_.%~\[\]-]+=`)

// contentType is what HEADERS say of BODY, or what it looks like.
func (c *compiler) contentType() string {
	for _, e := range c.rt.table {
		if e.setting == "HEADERS" && e.header == "Content-Type" && len(e.template.parts) == 1 {
			media, _, _ := strings.Cut(e.template.parts[0].literal, ";")
			return strings.ToLower(strings.TrimSpace(media))
		}
	}
	body := strings.TrimSpace(c.s.Body)
	if at := placeholder.FindStringIndex(body); at != nil && at[0] == 0 {
		return "text/plain; charset=utf-8" // its brace is none of JSON's
	}
	switch {
	case body == "":
		return ""
	case formBody.MatchString(body):
		return "application/x-www-form-urlencoded"
	case strings.ContainsAny(body[:1], `{["`):
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

func (c *compiler) programs() {
	s, rt := c.s, c.rt
	if s.Mode == ModeItems && s.Select == "" && rt.Polls() {
		s.Select = ".[]"
	}
	rt.reply = c.code("REPLY", "REPLY", s.Reply)
	rt.program = translate.Program{
		Select: c.reading("SELECT", "SELECT", s.Select),
		Event:  c.code("EVENT", "EVENT", s.Event),
		Data:   c.code("DATA", "DATA", s.Data),
		ID:     c.reading("ID", "ID", s.ID),
		Done:   c.reading("DONE", "DONE", s.Done),
		Key:    c.code("KEY", "KEY", s.Key),
		Strict: rt.Polls() && !rt.Follows(),
	}
	if s.Mode == ModePatch && rt.Polls() {
		rt.key, rt.program.Key = rt.program.Key, nil
		if s.Event != "" {
			c.bad("EVENT", "has no effect with MODE=patch, whose events are called snapshot and patch; unset it")
		}
	}
	if body := c.contentType(); body != "" && !rt.hasHeader("Content-Type") {
		c.add(entry{setting: "HEADERS", header: "Content-Type", field: headerField, template: literal(body)})
	}
	if rt.Polls() && !rt.hasHeader("Accept") {
		accept := "application/json"
		if rt.Follows() {
			accept = "text/event-stream, application/x-ndjson, application/json;q=0.9"
		}
		c.add(entry{setting: "HEADERS", header: "Accept", field: headerField, template: literal(accept)})
	}
}

func (rt *Route) hasHeader(name string) bool {
	return slices.ContainsFunc(rt.table, func(e *entry) bool { return e.header == name })
}

// Scoped reports whether each ?session= has an upstream of its own.
func (rt *Route) Scoped() bool { return rt.settings.Session }
