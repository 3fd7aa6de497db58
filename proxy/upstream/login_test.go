package upstream

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"sidestream/translate"
)

const loginPage = "<!doctype html><title>Log in</title>"

// site answers /in directly, and any other path by a redirect to it.
func site(media, body string) *api {
	return &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/in" {
			http.Redirect(w, r, "/in", http.StatusFound)
			return
		}
		w.Header()["Content-Type"] = nil
		if media != "" {
			w.Header().Set("Content-Type", media)
		}
		io.WriteString(w, body)
	}}
}

// What comes after a redirect, or as a page where data is needed, is a login: a refusal that may pass.
func TestLogin(t *testing.T) {
	const (
		page       = "passing upstream refused (401): answered with a page of HTML, probably a login"
		redirected = "passing upstream refused (401): redirected to text/html, which was not asked for, probably a login (if it is none, ask for it in HEADERS, Accept)"
	)
	for name, c := range map[string]struct {
		s           SourceSettings
		path        string
		media, body string
		want        string
	}{
		"poll, redirected":               {SourceSettings{}, "/x", "text/html; charset=utf-8", loginPage, redirected},
		"poll, exact bytes, a page":      {SourceSettings{}, "/in", "text/html", loginPage, "retry payload is not JSON"},
		"poll with programs, a page":     {SourceSettings{Data: ".x"}, "/in", "text/html", loginPage, page},
		"poll, redirected to text":       {SourceSettings{}, "/x", "text/plain", "please log in", "passing upstream refused (401): redirected to text/plain, which was not asked for, probably a login (if it is none, ask for it in HEADERS, Accept)"},
		"poll, redirected to data":       {SourceSettings{}, "/x", "application/json", `{"x":1}`, `{"x":1}`},
		"poll, data called HTML":         {SourceSettings{Data: ".x"}, "/x", "text/html", `{"x":1}`, "1"},
		"poll, data without a type":      {SourceSettings{}, "/x", "", `{"x":1}`, `{"x":1}`},
		"stream, redirected":             {SourceSettings{Mode: ModeStream}, "/x", "text/html", loginPage, redirected},
		"stream, a page":                 {SourceSettings{Mode: ModeStream}, "/in", "text/html", loginPage, page},
		"stream, a page without a type":  {SourceSettings{Mode: ModeStream}, "/in", "", loginPage, page},
		"stream, FORMAT says what it is": {SourceSettings{Mode: ModeStream, Format: "lines"}, "/in", "text/html", "<p>\n", "<p>"},
		"stream, redirected to a stream": {SourceSettings{Mode: ModeStream}, "/x", "application/x-jsonlines", "1\n", "1"},
		"upgrade, a page":                {SourceSettings{From: "ws://legacy"}, "/in", "text/html", loginPage, page},
		"upgrade, redirected":            {SourceSettings{From: "ws://legacy"}, "/x", "text/html", loginPage, page},
		"upgrade, no page":               {SourceSettings{From: "ws://legacy"}, "/in", "application/json", "{}", "retry answered 200"},
		"TICKET, a page": {SourceSettings{From: "ws://legacy", Ticket: "GET http://legacy/in", Dial: ".url"}, "/in", "text/html", loginPage,
			"passing request before the dial: upstream refused (401): answered with a page of HTML, probably a login"},
	} {
		bubble(t, site(c.media, c.body).ServeHTTP, func(t *testing.T) {
			s := c.s
			if s.From == "" {
				s.From = "http://legacy"
			}
			s.From += c.path
			got := ""
			conn, err := expanded(t, compiled(t, s), "/").Source(quietLog).Connect(t.Context())
			if err == nil {
				err = conn.Run(t.Context(), func(ms []translate.Message) error { got = write(ms); return translate.ErrFinished })
			}
			if got == "" {
				got = classOf(err) + " " + fmt.Sprint(err)
			}
			if got != c.want {
				t.Errorf("%s:\n\t%s\nwant\n\t%s", name, got, c.want)
			}
		})
	}
}
