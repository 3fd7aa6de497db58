// This file is the cookies of the upstream (COOKIES): what one answer sets goes along with the next requests of the same source, as
// with any browser, so that balancers find their server again and polls do not leave a session behind each. The rules:
//
//   - A jar belongs to one source, so never to two identities, and to this process.
//   - The upstream's word counts more than the cookie of the same name that the client's request, or HEADERS, brought along.
//   - A refusal forgets them: the next attempt shall not fail for a session that has ended.
//   - It is bounded: 64 cookies of 4 KiB; one more, and all are forgotten.

package upstream

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
)

const (
	maxCookies = 64
	maxCookie  = 4 << 10 // bytes of one, attributes included
)

// jar keeps cookies of one source. The zero value is empty; nil keeps none. Safe for concurrent use.
type jar struct {
	mu    sync.Mutex
	kept  *cookiejar.Jar
	known map[string]bool
}

// forget empties j.
func (j *jar) forget() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept, j.known = nil, nil
}

// take keeps what an answer from u sets.
func (j *jar) take(u *url.URL, resp *http.Response) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range resp.Cookies() {
		if len(c.Raw) > maxCookie {
			continue
		}
		if place := u.Host + " " + c.Domain + " " + c.Path + " " + c.Name; !j.known[place] {
			if len(j.known) >= maxCookies {
				j.kept, j.known = nil, nil
			}
			if j.kept == nil {
				j.kept, _ = cookiejar.New(nil) // never fails
				j.known = map[string]bool{}
			}
			j.known[place] = true
		}
		j.kept.SetCookies(u, []*http.Cookie{c})
	}
}

// header is the header Cookie of a request to u that would have own: the upstream's, and what own has beside them.
func (j *jar) header(u *url.URL, own []string) string {
	j.mu.Lock()
	kept := j.kept
	j.mu.Unlock()
	if kept == nil {
		return ""
	}
	cookies := kept.Cookies(u)
	if len(cookies) == 0 {
		return ""
	}
	set := map[string]bool{}
	var pairs []string
	for _, c := range cookies {
		set[c.Name] = true
		pairs = append(pairs, c.String())
	}
	var before []string
	for _, line := range own {
		for pair := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if pair = strings.TrimSpace(pair); pair != "" && !set[name] {
				before = append(before, pair)
			}
		}
	}
	return strings.Join(append(before, pairs...), "; ")
}

// carried sends requests with the cookies of a jar, and keeps what their answers set, redirects included.
type carried struct {
	base http.RoundTripper
	jar  *jar
}

func (c carried) RoundTrip(req *http.Request) (*http.Response, error) {
	if cookie := c.jar.header(req.URL, req.Header.Values("Cookie")); cookie != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Cookie", cookie)
	}
	resp, err := c.base.RoundTrip(req)
	if err == nil {
		c.jar.take(req.URL, resp)
	}
	return resp, err
}
