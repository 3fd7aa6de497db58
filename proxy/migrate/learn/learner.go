package learn

import (
	"crypto/sha256"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/migrate"
)

// Learner is a [migrate.Listener] that learns from what passes through. Any number of goroutines may use it. What it keeps is bounded, and once
// it has enough of a path, further conversations at it cost nothing.
type Learner struct {
	base   *url.URL
	socket string

	messages atomic.Int64
	bytes    atomic.Int64 // kept
	full     atomic.Bool

	reporting sync.Mutex // guards what follows
	report    Report
	stale     time.Time // when report is to be made again

	mu    sync.Mutex // guards what follows
	talks map[string][]*hearing
	polls map[string]*watched
	swept time.Time // when what is idle was last looked for
}

// New returns a learner for the service at base, on the Unix socket of that path, "" for none.
func New(base *url.URL, socket string) *Learner {
	return &Learner{base: base, socket: socket, talks: map[string][]*hearing{}, polls: map[string]*watched{}}
}

// reportShare bounds what reports cost: one is given out for so many times as long as it took to make.
const reportShare = 20

// Report concludes what it can of what was seen so far. Where much was seen that takes a while: it may be some seconds old then.
func (l *Learner) Report() Report {
	l.reporting.Lock()
	defer l.reporting.Unlock()
	if time.Now().Before(l.stale) {
		return l.report
	}
	began := time.Now()
	l.report = Conclude(l.Observe(), nil)
	l.stale = time.Now().Add(reportShare * time.Since(began))
	return l.report
}

// Observe is what was seen so far.
func (l *Learner) Observe() *Observation {
	o := &Observation{Base: l.base, Socket: l.socket, Messages: int(l.messages.Load()), Full: l.full.Load()}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range slices.Sorted(mapsKeys(l.talks)) {
		for _, h := range l.talks[at] {
			o.Conversations = append(o.Conversations, h.snapshot())
		}
	}
	for _, at := range slices.Sorted(mapsKeys(l.polls)) {
		for _, who := range slices.Sorted(mapsKeys(l.polls[at].clients)) {
			for _, a := range l.polls[at].clients[who] {
				if whole := *a; !a.End.IsZero() { // the others are not over
					o.Answers = append(o.Answers, &whole)
				}
			}
		}
	}
	return o
}

// reserve takes n bytes of what may be kept, or reports that there are no more.
func (l *Learner) reserve(n int) bool {
	if l.bytes.Add(int64(n)) > maxBytes {
		l.bytes.Add(int64(-n))
		l.full.Store(true)
		return false
	}
	return true
}

// client tells clients apart: by address, as far as it is known, and what they say of who they are.
func client(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	h := sha256.New()
	for _, s := range []string{host, first, r.Header.Get("User-Agent"), r.Header.Get("Authorization"), strings.Join(r.Header["Cookie"], "; ")} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return string(h.Sum(nil))
}

// Upgraded is [migrate.Listener]'s.
func (l *Learner) Upgraded(r *http.Request, answer http.Header) migrate.Hearer {
	if len(r.URL.EscapedPath()) > maxPath {
		return nil
	}
	at := shape(r.URL.EscapedPath())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.talks[at] == nil && len(l.talks) >= maxPaths {
		l.full.Store(true)
		return nil
	}
	if len(l.talks[at]) >= maxConversations && !l.replaceEmpty(at) {
		return nil
	}
	h := &hearing{learner: l}
	h.conv.Request = newRequest(r, time.Now())
	h.conv.Client = client(r)
	h.conv.Subprotocol = answer.Get("Sec-Websocket-Protocol")
	h.conv.Compressed = strings.Contains(answer.Get("Sec-Websocket-Extensions"), "permessage-deflate")
	if h.conv.Compressed {
		h.most = mostInflated
		if slices.ContainsFunc(l.talks[at], func(other *hearing) bool { return other.most == mostInflated }) {
			h.most = leastInflated
		}
	}
	l.talks[at] = append(l.talks[at], h)
	return h
}

// replaceEmpty forgets a conversation that has ended without a message, of which nothing is to be learned.
func (l *Learner) replaceEmpty(at string) bool {
	i := slices.IndexFunc(l.talks[at], func(h *hearing) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.conv.Over && len(h.conv.Frames) == 0
	})
	if i >= 0 {
		l.talks[at] = slices.Delete(l.talks[at], i, i+1)
	}
	return i >= 0
}

// watched is the answers at paths of one shape, by client.
type watched struct{ clients map[string][]*Answer }

// Answered is [migrate.Listener]'s.
func (l *Learner) Answered(r *http.Request, status int, answer http.Header) func(migrate.Body) {
	if !couldBePoll(r, status, answer) {
		return nil
	}
	at, who := shape(r.URL.EscapedPath())+" "+queryNames(r.URL.RawQuery), client(r)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.polls[at]
	if w == nil {
		if len(l.polls) >= maxPaths && !l.forgetIdle(now) {
			l.full.Store(true)
			return nil
		}
		w = &watched{clients: map[string][]*Answer{}}
		l.polls[at] = w
	}
	if len(w.clients[who]) >= maxAnswers || w.clients[who] == nil && len(w.clients) >= maxClients {
		return nil
	}
	a := &Answer{Request: newRequest(r, now), Status: status, Set: hiddenCookies(answer)}
	a.Client = who
	w.clients[who] = append(w.clients[who], a)
	return func(b migrate.Body) { l.answered(a, b) }
}

// answered is the end of an answer.
func (l *Learner) answered(a *Answer, b migrate.Body) {
	now := time.Now()
	data := b.Data
	if len(data) > maxBody || !isObject(data) || !l.reserve(len(data)) {
		data = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a.End, a.Size = now, b.Size
	a.Data = data
}

// couldBePoll reports whether an answer could be that of a poll: JSON, or nothing new of it.
func couldBePoll(r *http.Request, status int, answer http.Header) bool {
	kind := answer.Get("Content-Type")
	return (status == http.StatusNotModified || status == http.StatusOK && strings.Contains(strings.ToLower(kind), "json")) &&
		len(r.URL.EscapedPath()) <= maxPath && len(r.URL.RawQuery) <= maxValue
}

// queryNames are the names in a query, sorted.
func queryNames(query string) string {
	var names []string
	for _, p := range pairs(query) {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, "&")
}

// hiddenCookies are the names of cookies that an answer sets for no script to read.
func hiddenCookies(answer http.Header) (names []string) {
	for _, line := range answer["Set-Cookie"] {
		if c, err := http.ParseSetCookie(line); err == nil && c.HttpOnly && len(names) < maxPairs && len(c.Name) <= 64 {
			names = append(names, c.Name)
		}
	}
	return names
}

// forgetIdle forgets what was asked once alone, a minute ago or more: most GETs are no polls. It reports whether there was any.
func (l *Learner) forgetIdle(now time.Time) (forgot bool) {
	if now.Sub(l.swept) < time.Second {
		return false
	}
	l.swept = now
	for at, w := range l.polls {
		last, n := time.Time{}, 0
		for _, answers := range w.clients {
			n = max(n, len(answers))
			if t := answers[len(answers)-1].At; t.After(last) {
				last = t
			}
		}
		if n == 1 && now.Sub(last) > time.Minute {
			for _, answers := range w.clients {
				l.bytes.Add(-int64(len(answers[0].Data)))
				answers[0].Data = nil
			}
			delete(l.polls, at)
			forgot = true
		}
	}
	return forgot
}
