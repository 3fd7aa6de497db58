package upstream

import (
	"regexp"
	"slices"
	"strings"

	"sidestream/translate"
)

// cursor is what the answer to a poll may say of the next one.
func (c *compiler) cursor() {
	s, rt := c.s, c.rt
	rt.cursor = c.reading("CURSOR", "CURSOR", s.Cursor)
	if rt.reset = c.asking("RESET", "RESET", s.Reset); rt.reset != nil {
		rt.forgets = forgetful(rt.reset)
	}
	rt.refused = c.asking("REFUSED", "REFUSED", s.Refused)
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
		c.bad("MODE", "patch compares whole documents, which come neither in pages nor with a CURSOR; unset PAGES, NEXT and CURSOR")
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
	if at, _ := placeholders(body); len(at) > 0 && at[0].from == 0 {
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
	if rt.reply = c.code("REPLY", "REPLY", s.Reply); rt.reply != nil && rt.reply.Constant() {
		c.bad("REPLY", `answers every message, whatever it is, and its answers are answered in turn; write which one it answers, such as select(.type=="ping")|{type:"pong"}`)
	}
	rt.program = translate.Program{
		Select: c.reading("SELECT", "SELECT", s.Select),
		Event:  c.code("EVENT", "EVENT", s.Event),
		Data:   c.code("DATA", "DATA", s.Data),
		ID:     c.reading("ID", "ID", s.ID),
		Done:   c.asking("DONE", "DONE", s.Done),
		Key:    c.code("KEY", "KEY", s.Key),
		Strict: rt.Polls() && !rt.Follows(),
	}
	if rt.Polls() && !rt.Follows() {
		c.unnamed("EVENT", s.Event)
		c.unnamed("ID", s.ID)
		c.unnamed("KEY", s.Key)
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
		accept := accepts(rt.decode)
		if rt.Follows() {
			accept = "text/event-stream, application/x-ndjson, application/json;q=0.9"
		}
		c.add(entry{setting: "HEADERS", header: "Accept", field: headerField, template: literal(accept)})
	}
}

// unnamed notes a program of a poll that is one of the values which only other sources have, where a field is meant.
func (c *compiler) unnamed(setting, src string) {
	switch name := strings.TrimPrefix(strings.TrimSpace(src), "$"); name {
	case "event", "id", "topic":
		c.bad(setting, "is $%s, what the message itself was called, which the answer to a poll does not have; the field is .%[1]s", name)
	}
}

func (rt *Route) hasHeader(name string) bool {
	return slices.ContainsFunc(rt.table, func(e *entry) bool { return e.header == name })
}
