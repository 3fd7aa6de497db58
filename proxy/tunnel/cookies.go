package tunnel

import (
	"crypto/sha256"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is whose a page is, and what the upstream's cookies change about that. The rules:
//
//   - A page belongs to the client that knows its id and has its cookies and Authorization, in whatever order the cookies come.
//   - The cookies that an upstream sets when it is dialled go to the browser with the answer to the POST that opened the tunnel, as
//     they would have with the answer to the upgrade. The browser comes with them from then on, where their Path covers the
//     tunnel's: so the page is known by what they make of the cookies that it came with, and goes on.
//   - A page opens its WebSockets at once, but browsers connect them one after the other, and each with the cookies that the one before
//     was given: so does the sidecar, where the POST came before the browser had them.
//   - A cookie without a Path has that of the WebSocket's address, which the POST's is not (RFC 6265, section 5.1.4).

// pageKey is a page's id, and the client that asks for it.
type pageKey [sha256.Size]byte

// maxKeys bounds how many sets of cookies a page is known by; the oldest but the first are forgotten.
const maxKeys = 64

// openTime is how long a POST that opens a tunnel waits for the upstream's answer, for the cookies that come with it.
const openTime = 3 * time.Second

func identity(id string, cookies []string, r *http.Request) pageKey {
	cookies = slices.Clone(cookies)
	slices.Sort(cookies)
	var b []byte
	for _, part := range []string{id, strings.Join(cookies, "; "), strings.Join(r.Header["Authorization"], ", ")} {
		b = strconv.AppendInt(b, int64(len(part)), 10)
		b = append(append(b, ' '), part...)
	}
	return sha256.Sum256(b)
}

// cookiesOf are the pairs of r's Cookie, as they were sent.
func cookiesOf(r *http.Request) (pairs []string) {
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if pair = strings.TrimSpace(pair); pair != "" {
				pairs = append(pairs, pair)
			}
		}
	}
	return pairs
}

// afterwards is what a browser makes of its cookies for path when it is given lines of Set-Cookie.
func afterwards(pairs, lines []string, now time.Time, path string) []string {
	pairs = slices.Clone(pairs)
	for _, line := range lines {
		given, value, c, ok := setCookie(line)
		if !ok || !covers(c.Path, path) {
			continue
		}
		pairs = slices.DeleteFunc(pairs, func(pair string) bool { name, _, _ := strings.Cut(pair, "="); return name == given })
		if c.MaxAge > 0 || c.MaxAge == 0 && (c.Expires.IsZero() || c.Expires.After(now)) {
			pairs = append(pairs, given+"="+value)
		}
	}
	return pairs
}

// setCookie takes a line of Set-Cookie apart as browsers do (RFC 6265, section 5.2), which take names and values as they are: net/http
// would not take JSON, for one. What it makes of the rest is enough.
func setCookie(line string) (name, value string, attributes *http.Cookie, ok bool) {
	pair, rest, _ := strings.Cut(line, ";")
	name, value, ok = strings.Cut(pair, "=")
	attributes, err := http.ParseSetCookie("name=value;" + rest)
	name = strings.TrimSpace(name)
	return name, strings.TrimSpace(value), attributes, ok && name != "" && err == nil
}

// tunnelPath is the path of the POSTs.
const tunnelPath = "/_sidestream/tunnel"

// covers reports whether a cookie with this Path goes along to path (RFC 6265, section 5.1.4).
func covers(cookie, path string) bool {
	return cookie == path || strings.HasPrefix(path, strings.TrimSuffix(cookie, "/")+"/")
}

// maxLines bounds how many lines of Set-Cookie a page remembers for tunnels that have not been dialled yet.
const maxLines = 64

// given is lines of Set-Cookie that a browser may not have had when it asked for a tunnel.
type given struct {
	line   string
	number int // counts up
}

// maxCookies bounds the lines of Set-Cookie of one answer, and maxCookie each of them: browsers take no more than 4 KiB.
const (
	maxCookies = 50
	maxCookie  = 8 << 10
)

// bounded is the lines that are handed on.
func bounded(lines []string) (kept []string) {
	for _, line := range lines[:min(len(lines), maxCookies)] {
		if len(line) <= maxCookie {
			kept = append(kept, line)
		}
	}
	return kept
}

// learn remembers the cookies of an answer for the tunnels that wait.
func (p *page) learn(lines []string) {
	p.pages.mu.Lock()
	defer p.pages.mu.Unlock()
	for _, line := range lines {
		p.cookies++
		p.given = append(p.given, given{line, p.cookies})
	}
	p.given = slices.Delete(p.given, 0, max(len(p.given)-maxLines, 0))
}

// catchUp gives in, which stands for a WebSocket, the cookies that came after its POST.
func (t *tunnel) catchUp(in *http.Request) {
	t.page.pages.mu.Lock()
	var lines []string
	for _, g := range t.page.given {
		if g.number > t.cookiesSeen && t.isFor(g.line, in) {
			lines = append(lines, g.line)
		}
	}
	t.page.pages.mu.Unlock()
	if len(lines) == 0 {
		return
	}
	target, _, _ := strings.Cut(in.RequestURI, "?")
	if pairs := afterwards(cookiesOf(in), lines, time.Now(), target); len(pairs) > 0 {
		in.Header.Set("Cookie", strings.Join(pairs, "; "))
	} else {
		in.Header.Del("Cookie")
	}
}

// isFor reports whether a browser sends the cookie of line to in's host, and over in's scheme.
func (t *tunnel) isFor(line string, in *http.Request) bool {
	_, _, c, ok := setCookie(line)
	host := in.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	secure := in.TLS != nil || in.Header.Get("X-Forwarded-Proto") == "https"
	return ok && (!c.Secure || secure) && (c.Domain == "" || strings.HasSuffix("."+host, "."+strings.TrimPrefix(c.Domain, ".")))
}

// withPath gives each line of Set-Cookie that has no Path, or none that counts, the one that it has by default for target.
func withPath(lines []string, target string) (all []string) {
	path, _, _ := strings.Cut(target, "?")
	path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	if path == "" {
		path = "/"
	}
	for _, line := range lines {
		if _, _, c, ok := setCookie(line); ok && !strings.HasPrefix(c.Path, "/") {
			line += "; Path=" + path
		}
		all = append(all, line)
	}
	return all
}

// known is one set of cookies that a page is found by.
type known struct {
	key   pageKey
	pairs []string
}

// know has the page of r, a POST with its id, found with the cookies too that lines of Set-Cookie make of r's, and of any other that it
// is known by: those of several tunnels may be answered at once, and reach the browser in any order.
func (p *page) know(id string, r *http.Request, lines []string) {
	p.pages.mu.Lock()
	defer p.pages.mu.Unlock()
	if p.gone {
		return
	}
	now := time.Now()
	made := [][]string{afterwards(cookiesOf(r), lines, now, tunnelPath)}
	for _, k := range p.keys {
		made = append(made, afterwards(k.pairs, lines, now, tunnelPath))
	}
	for _, pairs := range made {
		key := identity(id, pairs, r)
		if p.pages.byKey[key] != nil {
			continue
		}
		if len(p.keys) >= maxKeys {
			delete(p.pages.byKey, p.keys[1].key)
			p.keys = slices.Delete(p.keys, 1, 2)
		}
		p.keys = append(p.keys, known{key, pairs})
		p.pages.byKey[key] = p
	}
}

// cookies waits for what the upstream says to the upgrade, and returns the cookies that came with it.
func (t *tunnel) cookies(r *http.Request) []string {
	wait := time.NewTimer(openTime)
	defer wait.Stop()
	select {
	case <-t.answered:
		return t.answer.Cookies
	case <-wait.C:
	case <-r.Context().Done():
	}
	return nil
}
