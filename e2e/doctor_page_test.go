//go:build e2e

package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// startUnder is a proxy that has the sidecar under a path.
func startUnder(t *testing.T, target, prefix string) string {
	t.Helper()
	p := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: target})
		r.Out.Host = r.In.Host
	}}
	mux := http.NewServeMux()
	mux.Handle(prefix+"/", http.StripPrefix(prefix, p))
	s := httptest.NewServer(mux)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}

// findings is what the page shows: level and check.
func findings(t *testing.T, b browser) map[string]string {
	t.Helper()
	shown(t, b, "the page's end", `document.body.dataset.done === "true"`)
	all := map[string]string{}
	for row := range strings.SplitSeq(b.eval(t, `[...document.querySelectorAll("#findings li")].map(e => [...e.children].map(c => c.textContent).join("|")).join("\n")`), "\n") {
		parts := strings.SplitN(row, "|", 3)
		if len(parts) < 3 {
			t.Fatalf("a finding reads %q", row)
		}
		all[parts[1]] = parts[0] + ": " + parts[2]
	}
	return all
}

// TestDoctorPage: the page finds nothing wrong where nothing is, wherever a proxy has put it, and what is wrong where events are held back.
func TestDoctorPage(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	hoarder, under := startHoarder(t, s.addr), startUnder(t, s.addr, "/live/feed")
	healthy := map[string]string{"server": "note: ", "clock": "ok: ", "events": "ok: events arrived one by one", "compression": "ok: ", "EventSource": "ok: events arrived one by one", "cut": "ok: ",
		"long poll": "ok: ", "WebSocket": "ok: ", "headers": "ok: ", "upload": "ok: 4 MiB", "silence": "ok: "}
	held := map[string]string{"events": "wrong: no event arrived before the end of the answer", "EventSource": "wrong: no event arrived before the end", "long poll": "ok: ", "headers": "ok: ", "WebSocket": "ok: "}
	for name, b := range map[string]browser{"chromium": startChromium(t), "firefox": startFirefox(t)} {
		t.Run(name, func(t *testing.T) {
			for at, want := range map[string]map[string]string{s.addr + "/_sidestream/doctor": healthy, under + "/live/feed/_sidestream/doctor": healthy, hoarder + "/_sidestream/doctor": held} {
				b.open(t, "http://"+at+"?idle=3")
				got := findings(t, b)
				for check, part := range want {
					if !strings.HasPrefix(got[check], part) {
						t.Errorf("%s: %s: %q, want %q", at, check, got[check], part)
					}
				}
				if wrong := b.eval(t, `performance.getEntriesByType("resource").filter(e => !e.name.startsWith(location.origin) && !e.name.startsWith("data:")).map(e => e.name).join()`); wrong != "" {
					t.Errorf("%s fetched from elsewhere: %s", at, wrong)
				}
				report := b.eval(t, `document.getElementById("copy").click(), document.getElementById("report").value`)
				if strings.Contains(report, "idle=3") || !strings.Contains(report, "http://"+at) || !strings.Contains(report, "EventSource") {
					t.Errorf("%s: the report reads %s", at, report)
				}
				shown(t, b, "that it was copied", `document.getElementById("copied").textContent === "copied"`)
				kind := name + map[bool]string{true: "-held", false: ""}[strings.HasPrefix(at, hoarder)]
				b.screenshot(t, "doctor-"+kind)
				if c, ok := b.(*chromium); ok && strings.HasPrefix(at, hoarder) {
					c.dark(t)
					c.screenshot(t, "doctor-dark")
					c.narrow(t)
					shown(t, b, "no more than a phone is wide", `document.documentElement.scrollWidth <= innerWidth`)
					c.screenshot(t, "doctor-phone")
				}
			}
		})
	}
}
