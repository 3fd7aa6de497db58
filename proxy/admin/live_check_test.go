package admin

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"sidestream/config"
)

// Each route says whether it connects, and what to do where it does not; what only a client can fill in is not tried.
func TestCheckLive(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/good" {
			io.WriteString(w, `{"a":1}`)
			return
		}
		http.Error(w, secret, http.StatusForbidden)
	}))
	defer s.Close()
	c, err := config.Load([]string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + s.URL + "/good", "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=ws://127.0.0.1:1/",
		"SSE_ROUTE_C_PATH=/c", "SSE_ROUTE_C_FROM=" + s.URL + "/bad?t=" + secret, "SSE_ROUTE_D_PATH=/d/{id}", "SSE_ROUTE_D_FROM=" + s.URL + "/{path.id}?t={query.t}"}, config.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	var out writer
	if err := CheckLive(t.Context(), c.Routes, &out, slog.New(slog.DiscardHandler)); err != ErrLive {
		t.Error(err)
	}
	want := `^
live     a: connected within \d+ms
live     b: connect: dial tcp 127.0.0.1:1: connection refused
         Nothing listens at that address\. .*
live     c: .*403.*
         The service refuses these credentials, .*
live     d: not tried: it needs \{path\.id\}, \{query\.t\}; try it with tap
$`
	if !regexp.MustCompile(want).MatchString(string(out)) || regexp.MustCompile(secret).MatchString(string(out)) {
		t.Errorf("%s", out)
	}
	out = nil
	if err := CheckLive(t.Context(), c.Routes[:1], &out, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}
