package proxy

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

// tapped runs tap over the only route of env.
func tapped(t *testing.T, words []string, w io.Writer, env ...string) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return Tap(ctx, configure(t, env...).Routes[0], words, w, slog.New(slog.DiscardHandler))
}

// TestTapNamesAllThatIsMissing at once, as the words to write.
func TestTapNamesAllThatIsMissing(t *testing.T) {
	err := tapped(t, []string{"query.b=1"}, io.Discard, "SSE_ROUTE_A_PATH=/a/{id}",
		"SSE_ROUTE_A_FROM=ws://127.0.0.1:1/{path.id}/{query.a}/{query.b}?n={query.n:0}&{query}", "SSE_ROUTE_A_HEADERS=X: {cookie.sid}{header.X-Team}{cookie.sid}{auth.sub}",
		"SSE_ROUTE_A_AUTH=jwt", "SSE_ROUTE_A_JWT_KEYS=secret:x", "SSE_ROUTE_A_AUTH_CLAIMS=sub,org")
	if err == nil || !strings.HasSuffix(err.Error(), ": the route needs path.id=… query.a=… cookie.sid=… header.X-Team=… auth.sub=…") {
		t.Error(err)
	}
}

// TestTapMakesASession where a page would have made one.
func TestTapMakesASession(t *testing.T) {
	f := newFeed(t)
	for _, words := range [][]string{nil, {"query.session=0123456789abcdef"}} {
		var out bytes.Buffer
		tell := make(chan struct{})
		go func() { defer close(tell); f.publish(t, "", `{"done":true}`) }()
		if err := tapped(t, words, &out, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_ROUTE_A_SCOPE=session", "SSE_ROUTE_A_DONE=.done"); err != nil || !strings.Contains(out.String(), `{"done":true}`) {
			t.Errorf("%q: %v, %s", words, err, &out)
		}
		<-tell
		f.cut() // the one that tap has left
	}
}

// TestTapSaysHowToLogIn when the upstream wants credentials.
func TestTapSaysHowToLogIn(t *testing.T) {
	f := newFeed(t)
	status := http.StatusUnauthorized
	f.verify = func(r *http.Request) int {
		if r.Header.Get("Cookie") != "" {
			return http.StatusForbidden
		}
		return status
	}
	for _, c := range []struct {
		words []string
		env   string
		want  string
	}{
		{nil, "FORWARD=Cookie,Authorization", "upstream refused (401); pass what a client would send: header.Cookie=… header.Authorization=…"},
		{[]string{"header.Authorization=x"}, "FORWARD=Cookie,Authorization", "upstream refused (401); pass what a client would send: header.Cookie=…"},
		{[]string{"header.Cookie=a=b"}, "FORWARD=Cookie", "upstream refused (403)"},
		{nil, "HEADERS=X: y", "upstream refused (401); nothing of a client's request goes upstream: forward its credentials with FORWARD=Cookie or FORWARD=Authorization, or give the route its own in HEADERS"},
	} {
		err := tapped(t, c.words, io.Discard, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_ROUTE_A_"+c.env)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v", c.env, err)
		}
	}
}

// TestRefusedSaysItOnce: no words twice in what a person reads.
func TestRefusedSaysItOnce(t *testing.T) {
	for _, c := range []struct {
		status int
		reason string
		want   string
	}{
		{401, "answered 401", "upstream refused (401)"},
		{403, "answered 401, which STATUS calls refused", "upstream refused (403): answered 401, which STATUS calls refused"},
	} {
		if got := (&translate.Refused{Status: c.status, Reason: c.reason}).Error(); got != c.want {
			t.Error(got)
		}
	}
}

// TestTapMerges shows what a merged route gives, and names what its parts need.
func TestTapMerges(t *testing.T) {
	f := newFeed(t)
	f.answer = answers(`{"up":true}`)
	routes := configure(t, mergedEnv(f)...).Routes
	log := slog.New(slog.DiscardHandler)
	err := TapNamed(t.Context(), routes, []string{"all"}, io.Discard, log)
	if err == nil || !strings.HasSuffix(err.Error(), ": the route needs path.id=…") {
		t.Error(err)
	}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	told := make(chan struct{})
	go func() { // ends with the tap
		defer close(told)
		f.publish(t, "prices", `{"kind":"bid"}`)
		f.publish(t, "orders=7", `{"n":1}`)
	}()
	if err := TapNamed(ctx, routes, []string{"all", "path.id=7", "-n", "3"}, &out, log); err != nil {
		t.Error(err)
	}
	<-told
	for _, want := range []string{"event: status\ndata: {\"up\":true}\n", "event: bid\ndata: {\"kind\":\"bid\"}\n", "event: orders\ndata: {\"n\":1}\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, &out)
		}
	}
	f.cut()
}

// TestTapMergesWhatComesAtOnce: what a part says as it is connected, before it is read for the first time, is no past of the tap's.
func TestTapMergesWhatComesAtOnce(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		if c.Write(r.Context(), websocket.MessageText, []byte(`"hello"`)) == nil {
			c.Read(r.Context()) // until the tap has what it wants
		}
	}))
	defer service.Close()
	routes := configure(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws"+strings.TrimPrefix(service.URL, "http")+"/ws", "SSE_ROUTE_ALL_PATH=/all", "SSE_ROUTE_ALL_FROM=routes:a").Routes
	for range 20 {
		var out bytes.Buffer
		if err := TapNamed(t.Context(), routes, []string{"all", "-n", "1", "-for", "10s"}, &out, slog.New(slog.DiscardHandler)); err != nil || !strings.Contains(out.String(), `"hello"`) {
			t.Fatalf("%v: %s", err, &out)
		}
	}
}

// TestTapOfAnOperation subscribes to what its words say, and says what is wrong with them, or with a route that no words are for.
func TestTapOfAnOperation(t *testing.T) {
	service := newGraphQL(t)
	var out bytes.Buffer
	tell := make(chan struct{})
	go func() {
		defer close(tell)
		service.says(t, "", `{"type":"next","id":"1","payload":{"data":1}}`)
		service.says(t, "", `{"type":"complete","id":"1"}`)
	}()
	if err := tapped(t, []string{"query.query=subscription { a }"}, &out, faceEnv(service)...); err != nil || !strings.Contains(out.String(), `{"data":1}`) {
		t.Errorf("%v: %s", err, &out)
	}
	<-tell
	for _, words := range [][]string{nil, {"query.query=mutation { a }"}} {
		if err := tapped(t, words, io.Discard, faceEnv(service)...); err == nil || !strings.Contains(err.Error(), "query.query=…") {
			t.Errorf("%v: %v", words, err)
		}
	}
	if err := tapped(t, nil, io.Discard, runEnv(newModel(t))...); err == nil || !strings.Contains(err.Error(), "curl") {
		t.Error(err)
	}
}
