// This file reads what a browser has recorded: HAR 1.2, and what browsers add to it.
//
//	log.entries[].startedDateTime, time       when it was asked, and how long the answer took, in ms
//	.request.method .url .headers .cookies .postData.text
//	.response.status .headers .content.text .content.encoding ("base64")
//	._webSocketMessages[]  type ("send", "receive"), time (in s since 1970), opcode (1 text, 2 binary in base64), data
//
// The last is Chromium's, and that of tools which follow it. Firefox, as of 153, records a WebSocket's request and answer, and no messages. Chromium leaves out
// cookies and Authorization unless it is asked to export sensitive data too; others write [REDACTED] or the like in their place.

package learn

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxHAR     = 256 << 20 // bytes of a file
	maxEntries = 50_000
)

// har is one entry, as far as it is read.
type har struct {
	Started time.Time `json:"startedDateTime"`
	Time    float64   `json:"time"`
	Request struct {
		Method  string
		URL     string
		Headers []Pair
		Cookies []Pair
		Post    struct{ Text string } `json:"postData"`
	}
	Response struct {
		Status  int
		Headers []Pair
		Content struct{ Text, Encoding, MimeType string }
	}
	Messages []harMessage `json:"_webSocketMessages"`
	Kind     string       `json:"_resourceType"`
}

type harMessage struct {
	Type   string
	Time   float64
	Opcode int
	Data   string
}

// readFile reads a file.
func readFile(name string) (*Observation, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("learn: %w", err)
	}
	defer f.Close()
	o, err := ReadHAR(f)
	if err != nil {
		return nil, fmt.Errorf("learn: %s: %w", name, err)
	}
	return o, nil
}

// ReadHAR reads a HAR file of up to 256 MiB. Entries that are wrong, of other schemes or of other types than JSON are passed over; messages and bodies
// are bounded as those of a [Learner]. Its error says what the file is instead, and quotes nothing of it.
func ReadHAR(r io.Reader) (*Observation, error) {
	limited := &io.LimitedReader{R: r, N: maxHAR}
	d := json.NewDecoder(limited)
	if err := toEntries(d); err != nil {
		return nil, cutShort(limited, err)
	}
	h := harReader{o: &Observation{}, hosts: map[string]int{}}
	for n := 0; d.More(); n++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, cutShort(limited, errNoHAR)
		}
		var e har
		if n >= maxEntries {
			h.o.Full = true
			break
		}
		if json.Unmarshal(raw, &e) == nil { // one that is wrong says nothing of the others
			h.entry(&e)
		}
	}
	return h.finish()
}

var errNoHAR = errors.New("this is no HAR file: export one from the network panel of the browser's developer tools, with \"Save all as HAR\"")

func cutShort(r *io.LimitedReader, err error) error {
	if r.N <= 0 {
		return fmt.Errorf("the file is larger than %d MiB: record less at a time", maxHAR>>20)
	}
	return err
}

// toEntries reads up to the first entry.
func toEntries(d *json.Decoder) error {
	for _, name := range []string{"log", "entries"} {
		if t, err := d.Token(); err != nil || t != json.Delim('{') {
			return errNoHAR
		}
		for {
			t, err := d.Token()
			if key, ok := t.(string); err != nil || !ok {
				return errNoHAR
			} else if key == name {
				break
			}
			var skipped json.RawMessage
			if d.Decode(&skipped) != nil {
				return errNoHAR
			}
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errNoHAR
	}
	return nil
}

type harReader struct {
	o        *Observation
	bytes    int
	hosts    map[string]int // requests, by scheme and host
	first    string         // the host that was asked first
	redacted bool
}

// entry takes one entry.
func (h *harReader) entry(e *har) {
	u, err := url.Parse(e.Request.URL)
	if err != nil || u.Host == "" || len(u.EscapedPath()) > maxPath {
		return
	}
	webSocket := u.Scheme == "ws" || u.Scheme == "wss" || e.Kind == "websocket" || e.Messages != nil || e.Response.Status == 101
	scheme, ok := map[string]string{"ws": "http", "wss": "https", "http": "http", "https": "https"}[u.Scheme]
	if !ok {
		return
	}
	q := h.request(e, u, scheme+"://"+u.Host)
	h.hosts[q.Base]++
	h.first = cmp.Or(h.first, q.Base)
	if webSocket {
		h.webSocket(e, q)
	} else if isJSON(e) || e.Response.Status == 304 {
		h.answer(e, q)
	}
}

func isJSON(e *har) bool {
	kind := e.Response.Content.MimeType
	return strings.Contains(strings.ToLower(kind), "json")
}

// request is what is kept of a request.
func (h *harReader) request(e *har, u *url.URL, base string) Request {
	header := http.Header{}
	for _, p := range e.Request.Headers {
		if name := http.CanonicalHeaderKey(p.Name); !strings.HasPrefix(p.Name, ":") && len(header) < 4*maxPairs && !h.isRedacted(p.Value) {
			header.Add(name, p.Value)
		}
	}
	q := Request{At: e.Started, Base: base, Path: u.EscapedPath(), Query: pairs(u.RawQuery), Header: kept(header)}
	for _, c := range e.Request.Cookies {
		if len(q.Cookies) < maxPairs && len(c.Value) <= maxValue && !h.isRedacted(c.Value) {
			q.Cookies = append(q.Cookies, c)
		}
	}
	if len(q.Cookies) == 0 {
		r := http.Request{Header: http.Header{"Cookie": header["Cookie"]}}
		for _, c := range r.Cookies() {
			if len(q.Cookies) < maxPairs && len(c.Value) <= maxValue && !h.isRedacted(c.Value) {
				q.Cookies = append(q.Cookies, Pair{c.Name, c.Value})
			}
		}
	}
	return q
}

// isRedacted reports whether somebody has taken a value out.
func (h *harReader) isRedacted(value string) bool {
	lower := strings.ToLower(value)
	is := strings.Contains(lower, "redacted") || strings.Contains(lower, "sanitized") || value != "" && strings.Trim(value, "*x•") == ""
	h.redacted = h.redacted || is
	return is
}

func (h *harReader) webSocket(e *har, q Request) {
	if len(h.o.Conversations) >= maxPaths*2 || e.Response.Status >= 300 {
		return
	}
	c := &Conversation{Request: q}
	for _, p := range e.Response.Headers {
		switch strings.ToLower(p.Name) {
		case "sec-websocket-protocol":
			c.Subprotocol = p.Value
		case "sec-websocket-extensions":
			c.Compressed = strings.Contains(p.Value, "permessage-deflate")
		}
	}
	for _, m := range e.Messages {
		h.message(c, m)
	}
	h.o.Messages += c.Sent + c.Received
	slices.SortStableFunc(c.Frames, func(a, b Frame) int { return a.At.Compare(b.At) })
	h.o.Conversations = append(h.o.Conversations, c)
}

// message takes a message of a WebSocket; what is neither sent nor received is an error of the connection.
func (h *harReader) message(c *Conversation, m harMessage) {
	f := Frame{At: seconds(m.Time), FromClient: m.Type == "send" || m.Type == "sent", Binary: m.Opcode == 2, Data: []byte(m.Data)}
	if !f.FromClient && m.Type != "receive" && m.Type != "received" || m.Opcode > 2 || m.Opcode < 0 {
		return
	}
	if f.FromClient {
		c.Sent++
	} else {
		c.Received++
	}
	if f.Binary {
		data, err := base64.StdEncoding.DecodeString(m.Data)
		if err != nil { // some tools write it as text
			data = []byte(m.Data)
		}
		f.Data = data
	}
	if f.Cut = len(f.Data) > maxFrame || h.isRedacted(m.Data); f.Cut {
		f.Data = nil
	}
	if len(c.Frames) >= maxFrames || !h.reserve(len(f.Data)+64) {
		h.o.Full = true
		return
	}
	c.Frames = append(c.Frames, f)
}

// seconds is a time that some tools write in ms.
func seconds(t float64) time.Time {
	if t != t || t < 0 || t > 1e14 {
		return time.Time{}
	}
	if t > 1e11 {
		t /= 1e3
	}
	return time.UnixMicro(int64(t * 1e6)).UTC()
}

func (h *harReader) answer(e *har, q Request) {
	if len(h.o.Answers) >= maxPaths*maxAnswers {
		h.o.Full = true
		return
	}
	a := &Answer{Request: q, Method: cmp.Or(e.Request.Method, http.MethodGet), Status: e.Response.Status, End: e.Started.Add(time.Duration(max(min(e.Time, 1e9), 0) * float64(time.Millisecond)))}
	data := []byte(e.Response.Content.Text)
	if e.Response.Content.Encoding == "base64" {
		plain, err := base64.StdEncoding.DecodeString(e.Response.Content.Text)
		if err != nil {
			plain = nil
		}
		data = plain
	}
	a.Size = len(data)
	if len(data) <= maxBody && isObject(data) && h.reserve(len(data)) {
		a.Data = data
	}
	if text := e.Request.Post.Text; len(text) <= maxValue {
		a.Sent = []byte(text)
	}
	for _, p := range e.Response.Headers {
		if strings.EqualFold(p.Name, "Set-Cookie") {
			a.Set = append(a.Set, hiddenCookies(http.Header{"Set-Cookie": strings.Split(p.Value, "\n")})...)
		}
	}
	h.o.Answers = append(h.o.Answers, a)
}

func (h *harReader) reserve(n int) bool {
	if h.bytes+n > 4*maxBytes {
		h.o.Full = true
		return false
	}
	h.bytes += n
	return true
}

// finish decides which service the file is about: the one that was asked most; that of the page, where it is one of them.
func (h *harReader) finish() (*Observation, error) {
	if len(h.hosts) == 0 {
		return nil, errors.New("there are no requests in the file: record with the network panel open, from before the page is loaded")
	}
	host := h.first
	for _, at := range slices.Sorted(maps.Keys(h.hosts)) {
		if h.hosts[at] > h.hosts[host] {
			host = at
		}
	}
	base, err := url.Parse(host)
	if err != nil {
		return nil, errNoHAR
	}
	h.o.Base = base
	slices.SortStableFunc(h.o.Conversations, func(a, b *Conversation) int { return a.At.Compare(b.At) })
	slices.SortStableFunc(h.o.Answers, func(a, b *Answer) int { return a.At.Compare(b.At) })
	for _, c := range h.o.Conversations {
		c.Base = unless(host, c.Base)
	}
	for _, a := range h.o.Answers {
		a.Base = unless(host, a.Base)
	}
	h.o.Notes = append(h.o.Notes, "SSE_UPSTREAM and FROM are the public address that the browser has used: write the service's own behind it, such as http://localhost:3000")
	if h.redacted {
		h.o.Notes = append(h.o.Notes, "values were taken out of the file: where a route needs a cookie or a token is not to be seen ("+strconv.Itoa(len(h.o.Conversations))+" WebSockets, "+strconv.Itoa(len(h.o.Answers))+" answers)")
	}
	return h.o, nil
}

// unless is at, or "" where that is host.
func unless(host, at string) string {
	if at == host {
		return ""
	}
	return at
}
