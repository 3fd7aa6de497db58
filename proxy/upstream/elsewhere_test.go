package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A date is one of the answer's own clock, which may be another than ours.
func TestRetryAfterByTheirClock(t *testing.T) {
	theirs := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, from := range []string{"http://legacy/", "ws://legacy/"} {
		for header, want := range map[string]time.Duration{
			theirs.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
			theirs.Add(-time.Hour).Format(http.TimeFormat):       0,
			"7": 7 * time.Second,
		} {
			a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", theirs.Format(http.TimeFormat))
				w.Header().Set("Retry-After", header)
				w.WriteHeader(http.StatusServiceUnavailable)
			}}
			bubble(t, a.ServeHTTP, func(t *testing.T) {
				_, err := expanded(t, compiled(t, SourceSettings{From: from}), "/").Source(quietLog).Connect(t.Context())
				var retry *Retry
				if !errors.As(err, &retry) || retry.After != want && (want != 0 || retry.After > emptyPace) {
					t.Errorf("%s %s: %+v", from, header, retry)
				}
			})
		}
	}
}

// Where a redirect leads that is not followed is named, without what may be a secret.
func TestRedirectNamesItsTarget(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"ws://legacy/feed", "https://legacy/feed?token=s3cret", "redirected to https://legacy/feed, which is not where FROM leads; if that is the service, begin FROM with wss://legacy"},
		{"http://legacy/feed", "https://legacy:8443/feed", "redirected to https://legacy:8443/feed, which is not where FROM leads; if that is the service, begin FROM with https://legacy:8443"},
		{"ws://legacy/feed", "https://u:s3cret@sso/login?state=s3cret", "redirected to https://sso/login, probably to a login"},
		{"ws://legacy/feed", "http://sso/bot123456789012345678901234567890/x", "redirected to http://sso/…/x, probably to a login"},
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, c.to, http.StatusMovedPermanently)
		}}
		bubble(t, a.ServeHTTP, func(t *testing.T) {
			_, err := expanded(t, compiled(t, SourceSettings{From: c.from}), "/").Source(quietLog).Connect(t.Context())
			if got := fmt.Sprint(err); got != "upstream refused (401): "+c.want {
				t.Errorf("%s to %s: %s", c.from, c.to, got)
			}
		})
	}
}

// A next page that has no address is none.
func TestNextPageNowhere(t *testing.T) {
	for _, s := range []SourceSettings{{Next: ".next"}, {Pages: 5}} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<http://[s3cret>; rel=next`)
			fmt.Fprint(w, `{"items":[1],"next":"http://[s3cret"}`)
		}}
		s.Select, s.Every = ".items[]", time.Second
		polled(t, s, a, func(k *taking) {
			time.Sleep(1500 * time.Millisecond)
			if got := strings.Join(k.texts(), " "); got != "1" || !strings.Contains(k.log.String(), "it is not an address") || strings.Contains(k.log.String(), "s3cret") {
				t.Errorf("%q\n%s", got, k.log)
			}
		})
	}
}

// A next page on another host is not followed; what came before it is emitted all the same, and the log names link and setting.
func TestNextPageElsewhere(t *testing.T) {
	for setting, s := range map[string]SourceSettings{"NEXT": {Next: ".next"}, "PAGES": {Pages: 5}} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<http://evil/list?page=2&key=s3cret>; rel=next`)
			fmt.Fprint(w, `{"items":[1],"next":"http://evil/list?page=2&key=s3cret"}`)
		}}
		s.Select, s.Every = ".items[]", time.Second
		polled(t, s, a, func(k *taking) {
			time.Sleep(1500 * time.Millisecond)
			if got := strings.Join(k.texts(), " "); got != "1" {
				t.Errorf("%q", got)
			}
			if text := k.log.String(); !strings.Contains(text, "http://evil/list") || !strings.Contains(text, setting) || strings.Contains(text, "s3cret") {
				t.Errorf("%s", text)
			}
		})
	}
}
