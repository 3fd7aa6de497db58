package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var here = netip.MustParsePrefix("203.0.113.9/32")

func ask(p *Probe, from netip.Prefix, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	p.Answer(w, r, from)
	return w
}

func get(path string) *http.Request { return httptest.NewRequest(http.MethodGet, Path+path, nil) }

// Bounds: of one address, of all, of a time, and each comes back.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(false)
		hold := func(from netip.Prefix) { // for a minute
			go ask(p, from, get("/stream?events=2&silence=60000"))
			synctest.Wait()
		}
		status := func(from netip.Prefix) int { return ask(p, from, get("/request")).Code }
		six := netip.MustParsePrefix("2001:db8::/64")
		for range perAddress {
			hold(six)
		}
		if got := status(six); got != 429 {
			t.Errorf("one of the same /64: %d", got)
		}
		for i := range atOnce - perAddress {
			hold(netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32))
		}
		w := ask(p, netip.MustParsePrefix("198.51.100.1/32"), get("/request"))
		if w.Code != 429 || w.Header().Get("Retry-After") == "" {
			t.Errorf("one too many: %d %v", w.Code, w.Header())
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if p.now != 0 || len(p.from) != 0 {
			t.Errorf("%d are still counted: %v", p.now, p.from)
		}
		for i := range burst {
			if got := status(here); got != 200 {
				t.Fatalf("request %d: %d", i, got)
			}
		}
		if got := status(here); got != 429 {
			t.Errorf("more than a burst: %d", got)
		}
		time.Sleep(time.Second)
		for i := range perSecond {
			if got := status(here); got != 200 {
				t.Fatalf("a second later, request %d: %d", i, got)
			}
		}
		if got := status(here); got != 429 {
			t.Errorf("more than the rate: %d", got)
		}
	})
}

// However a stream is asked for, it is bounded in bytes and time.
func TestPlans(t *testing.T) {
	for query, want := range map[string]int{
		"events=101": 400, "events=0": 400, "events=x": 400, "every=9": 400, "every=1001": 400, "size=59": 400, "size=1025": 400, "silence=300001": 400,
		"beat=60001": 400, "end=never": 400, "silence=-1": 400, "events=1&size=60": 200, "events=2&every=10&size=1024&end=cut": 200,
		"events=9999999999999999999": 400,
	} {
		if got := ask(New(false), here, get("/stream?"+query)).Code; got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		w := ask(New(false), here, get("/stream?events=100&every=1000&size=1024&silence=300000&beat=1"))
		if took := time.Since(begun); took > 7*time.Minute || w.Body.Len() > 128<<10 {
			t.Errorf("the most that can be asked for takes %v and has %d bytes", took, w.Body.Len())
		}
	})
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		plan := Plan{Events: 4, Every: 500 * time.Millisecond, Silence: 3 * time.Second, Beat: time.Second}
		w := ask(New(false), here, get("/stream?"+plan.Query()))
		if took := time.Since(begun); took != plan.Length() || took != 4500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		var want strings.Builder
		for n, after := range []time.Duration{0, 500, 1000, 4500} {
			if n == 3 {
				want.WriteString(":\n:\n")
			}
			want.Write(AppendEvent(nil, n+1, 60, begun.Add(after*time.Millisecond)))
		}
		if got := w.Body.String(); got != want.String() {
			t.Errorf("got  %q\nwant %q", got, want.String())
		}
		if e := AppendEvent(nil, 7, 1000, begun); len(e) != 1000 {
			t.Errorf("an event of 1000 bytes has %d", len(e))
		}
	})
}

// A sidecar that stops cuts the streams, and refuses more.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, cut := New(false), make(chan bool)
		go func() {
			cut <- p.Answer(httptest.NewRecorder(), get("/stream?events=2&silence=300000"), here)()
		}()
		synctest.Wait()
		begun := time.Now()
		p.Stop()
		if !<-cut || time.Since(begun) != 0 {
			t.Error("it was not cut at once")
		}
		if got := ask(p, here, get("/request")).Code; got != 503 {
			t.Errorf("afterwards: %d", got)
		}
	})
}

// An asker that goes leaves its place.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(false)
		ctx, cancel := context.WithCancel(t.Context())
		go ask(p, here, get("/stream?events=2&silence=300000").WithContext(ctx))
		synctest.Wait()
		cancel()
		synctest.Wait()
		if p.now != 0 {
			t.Error("its place is taken")
		}
	})
}

// No secret comes back, no address of the inside, and nothing without an end.
func TestRequestTellsNoSecret(t *testing.T) {
	const secret = "k3yk3yk3y"
	r := get("/request?host=App.example")
	r.Host, r.RemoteAddr = "sidecar.inside.svc:8080", "10.9.8.7:1234"
	for name, value := range map[string]string{
		"Authorization": "Bearer " + secret, "Cookie": "session=" + secret + "; other=" + secret, "X-Api-Key": secret, "Proxy-Authorization": secret,
		"X-Auth-Request-Access-Token": secret, "Referer": "https://app.example/?token=" + secret, "User-Agent": secret, "Forwarded": "for=10.1.1.1;secret=" + secret,
		"X-Forwarded-For": "203.0.113.7, 10.1.1.1, fd00::1, 100.64.1.1, edge.inside", "X-Forwarded-Host": "app.example", "X-Real-Ip": "192.168.0.1",
		"Accept": strings.Repeat("a", 10000), "Last-Event-Id": "1-2", "X-Varnish": "12",
	} {
		r.Header.Set(name, value)
	}
	w := ask(New(true), here, r)
	text := w.Body.String()
	for _, part := range []string{secret, "inside", "10.", "fd00", "100.64", "192.168", strings.Repeat("a", 201)} {
		if strings.Contains(text, part) {
			t.Errorf("it tells %q: %s", part, text)
		}
	}
	var said Words
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil {
		t.Fatal(err)
	}
	if said.Host != "(another name)" || said.Peer != "private" || !said.Authorization || !said.Shared || !said.Sidestream || said.Instance == "" ||
		!slices.Equal(said.Cookies, []Cookie{{"session", len(secret)}, {"other", len(secret)}}) || !slices.Equal(said.Products, []string{Varnish}) {
		t.Errorf("%+v", said)
	}
	if got := fmt.Sprint(said.Header["X-Forwarded-For"], said.Header["X-Forwarded-Host"], said.Header["X-Real-Ip"], said.Header["Last-Event-Id"]); got !=
		"[203.0.113.7, (private address), (private address), (private address), (another name)] [app.example] [(private address)] [1-2]" {
		t.Error(got)
	}
	for range 5 {
		r.Header.Add("Accept", "x")
	}
	r.Header["Cookie"] = []string{strings.Repeat("a=b;", 5000)}
	r.Header["X-Forwarded-For"] = []string{strings.Repeat("203.0.113.1,", 5000)}
	if n := ask(New(true), here, r).Body.Len(); n > 8<<10 {
		t.Errorf("%d bytes", n)
	}
}

// Pages of other origins have nothing of it.
func TestForeign(t *testing.T) {
	for site, want := range map[string]int{"": 200, "none": 200, "same-origin": 200, "same-site": 403, "cross-site": 403} {
		r := get("/request")
		r.Header.Set("Sec-Fetch-Site", site)
		w := ask(New(false), here, r)
		if h := w.Header(); w.Code != want || h.Get("Cross-Origin-Resource-Policy") != "same-origin" || h.Get("Access-Control-Allow-Origin") != "" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %v", site, w.Code, h)
		}
	}
	if w := ask(New(false), here, httptest.NewRequest(http.MethodPost, Path+"/stream", nil)); w.Code != 405 || w.Header().Get("Allow") != "GET" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestRecognise(t *testing.T) {
	for _, test := range []struct {
		header []string
		want   string
	}{
		{[]string{"Server", "nginx/1.22.1"}, "[nginx]"}, {[]string{"Server", "Apache/2.4.62 (Debian)"}, "[Apache]"}, {[]string{"Server", "Caddy"}, "[Caddy]"},
		{[]string{"Via", "1.1 varnish (Varnish/7.1)", "X-Varnish", "3"}, "[Varnish]"}, {[]string{"Server", "lighttpd/1.4.69"}, "[lighttpd]"},
		{[]string{"X-Cache", "MISS from proxy-7", "Via", "1.1 proxy-7 (squid/5.7)"}, "[Squid]"}, {[]string{"Server", "istio-envoy"}, "[Envoy]"},
		{[]string{"X-Envoy-Upstream-Service-Time", "3"}, "[Envoy]"}, {[]string{"X-Amzn-Trace-Id", "Root=1-2"}, "[ALB]"}, {[]string{"Server", "awselb/2.0"}, "[ALB]"},
		{[]string{"Server", "cloudflare", "Cf-Ray", "7"}, "[Cloudflare]"}, {[]string{"X-Cache", "Miss from cloudfront"}, "[CloudFront]"},
		{[]string{"X-Forwarded-Server", "h"}, "[Apache]"}, {[]string{"X-Forwarded-Server", "h", "X-Real-Ip", "1.2.3.4"}, "[Traefik]"}, {[]string{"Server", "gunicorn"}, "[]"},
		{[]string{"Server", "cloudflare", "Via", "1.1 varnish"}, "[Varnish Cloudflare]"},
	} {
		h := http.Header{}
		for i := 0; i < len(test.header); i += 2 {
			h.Set(test.header[i], test.header[i+1])
		}
		got := Recognise(h)
		slices.Sort(got)
		want := strings.Fields(strings.Trim(test.want, "[]"))
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", test.header, got, want)
		}
	}
}
