package tunnel

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is whose a page is, and what the upstream's cookies change about that. The rules:
//
//   - A page belongs to who knows its id and has its cookies and Authorization, in whatever order the cookies come.
//   - The cookies that an upstream sets when it is dialled go to the browser with the answer to the POST that opened the tunnel, as
//     they would have with the answer to the upgrade. The browser comes with them from then on, where their Path covers the
//     tunnel's: so the page is known by what they make of the cookies that it came with, and goes on.
//   - A cookie without a Path has that of the WebSocket's address, which the POST's is not (RFC 6265, section 5.1.4).

// pageKey is a page's id, and who asks for it.
type pageKey [sha256.Size]byte

// maxKeys bounds how many sets of cookies a page is known by; the oldest but the first are forgotten.
const maxKeys = 16

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

// afterwards is what a browser makes of its cookies for the tunnel's path when it is given lines of Set-Cookie.
func afterwards(pairs, lines []string, now time.Time) []string {
	pairs = slices.Clone(pairs)
	for _, line := range lines {
		given, value, c, ok := setCookie(line)
		if !ok || !covers(c.Path) {
			continue
		}
		pairs = slices.DeleteFunc(pairs, func(pair string) bool { name, _, _ := strings.Cut(pair, "="); return name == given })
		if c.MaxAge > 0 || c.MaxAge == 0 && (c.Expires.IsZero() || c.Expires.After(now)) {
			pairs = append(pairs, given+"="+value)
		}
	}
	return pairs
}

// setCookie takes a line of Set-Cookie apart as browsers do (RFC 6265, section 5.2), who take names and values as they are: net/http
// would not take JSON, for one. What it makes of the rest is enough.
func setCookie(line string) (name, value string, attributes *http.Cookie, ok bool) {
	pair, rest, _ := strings.Cut(line, ";")
	name, value, ok = strings.Cut(pair, "=")
	attributes, err := http.ParseSetCookie("name=value;" + rest)
	name = strings.TrimSpace(name)
	return name, strings.TrimSpace(value), attributes, ok && name != "" && err == nil
}

// covers reports whether a cookie with this Path goes along to the tunnel.
func covers(path string) bool {
	const tunnel = "/_sidestream/tunnel"
	return path == "/" || path == tunnel || strings.HasPrefix(tunnel, strings.TrimSuffix(path, "/")+"/")
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

// know has the page of r, a POST with its id, found with the cookies too that lines of Set-Cookie make of r's.
func (p *page) know(id string, r *http.Request, lines []string) {
	key := identity(id, afterwards(cookiesOf(r), lines, time.Now()), r)
	p.pages.mu.Lock()
	defer p.pages.mu.Unlock()
	if p.gone || p.pages.byKey[key] != nil {
		return
	}
	if len(p.keys) >= maxKeys {
		delete(p.pages.byKey, p.keys[1])
		p.keys = slices.Delete(p.keys, 1, 2)
	}
	p.keys = append(p.keys, key)
	p.pages.byKey[key] = p
}

// cookies waits for what the upstream says to the upgrade, and returns the cookies that came with it.
func (t *tunnel) cookies(r *http.Request) []string {
	wait := time.NewTimer(openTime)
	defer wait.Stop()
	select {
	case <-t.answered:
		return withPath(t.answer.Cookies, t.target)
	case <-wait.C:
	case <-r.Context().Done():
	}
	return nil
}
