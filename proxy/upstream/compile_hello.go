package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"sidestream/translate/dialect"
)

func (c *compiler) hello() {
	marks, lines := dialect.SplitHello(c.s.Hello)
	for i, mark := range marks {
		st := step{mark: mark}
		compiled := c.asking
		if mark == '=' {
			compiled = c.code // it reads nothing but the state
		}
		switch {
		case mark == '>':
			c.add(entry{setting: "HELLO", template: c.template("HELLO", lines[i], c.framePlace(lines[i]))})
		case lines[i] == "":
			c.bad("HELLO", "line %d: %s is missing after %c", i+1, missingAfter(mark), mark)
		case mark == '@':
			asks, err := c.asks(lines[i])
			if err != nil {
				c.bad("HELLO", "line %d: %v", i+1, err)
			}
			st.asks = asks
		default:
			st.code = compiled("HELLO", fmt.Sprintf("HELLO line %d", i+1), lines[i])
		}
		c.rt.steps = append(c.rt.steps, st)
	}
	if n := len(c.rt.steps); n > 0 && c.rt.steps[n-1].headers() {
		c.bad("HELLO", "line %d: is a header, and no request follows it; write @ and the address in the next line", n)
	}
}

// framePlace tells how values are written in a line that sends.
func (c *compiler) framePlace(line string) place {
	if at, _ := placeholders(line); c.rt.dialect.Operates && !(len(at) == 1 && at[0].from == 0 && at[0].to == len(line)) { // which is all the client's
		return inDocument()
	}
	return inText()
}

func missingAfter(mark byte) string {
	if mark == '@' {
		return "an address"
	}
	return "a jq program"
}

// asks is a line of HELLO that makes a request: [METHOD ]URL[ BODY], or a header of the request in the next line, Name: value.
type asks struct {
	method string
	header string // canonical; "": it is a request
	shown  string // the address, fit for logs
	body   bool   // it has one
	media  string // of the body
}

// headers reports whether the step is a header of the next one.
func (s step) headers() bool { return s.asks != nil && s.asks.header != "" }

// asks compiles a line that begins with @. Its templates are entries in this order: the header, or the address and the body.
func (c *compiler) asks(line string) (*asks, error) {
	first, rest := cutWord(line)
	if name, ok := strings.CutSuffix(first, ":"); ok && headerToken.MatchString(name) {
		a := &asks{header: textproto.CanonicalMIMEHeaderKey(name)}
		if c.header("HELLO", name) == "" {
			return a, nil
		}
		c.add(entry{setting: "HELLO", template: c.template("HELLO", rest, inHeader)})
		return a, nil
	}
	a := &asks{method: http.MethodPost}
	target, body := first, rest
	if !strings.Contains(first, "://") {
		if a.method = first; !methodToken.MatchString(first) || first == http.MethodConnect {
			return nil, errors.New("begins with neither an address nor a method; write @ [METHOD ]URL[ BODY], such as @ POST https://host/auth {\"id\":\"{state.id}\"}")
		}
		target, body = cutWord(rest)
	}
	u, err := url.Parse(replaced(target, "x"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
		return nil, errors.New("has no address to request; write it as http://host/path or https://, without #")
	}
	a.shown = Redact(target)
	c.entry(entry{setting: "HELLO", field: addressField}, target, inURL())
	a.media, a.body = "application/x-www-form-urlencoded", body != ""
	if body == "" {
		return a, nil
	}
	at := place(inForm)
	if plain := replaced(body, "x"); plain[0] == '{' || plain[0] == '[' {
		a.media, at = "application/json", inText()
	}
	c.entry(entry{setting: "HELLO"}, body, at)
	return a, nil
}

// cutWord takes the first word off a line. Blanks in a placeholder end none.
func cutWord(line string) (word, rest string) {
	all, _ := placeholders(line)
	for at := range len(line) {
		inside := false
		for _, f := range all {
			inside = inside || f.from <= at && at < f.to
		}
		if !inside && (line[at] == ' ' || line[at] == '\t') {
			return line[:at], strings.TrimSpace(line[at:])
		}
	}
	return line, ""
}
