package proxy

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestTunnelHandsCookiesOn: what the upstream sets with its answer to the upgrade reaches the browser, also of one that refuses; the
// page that comes with them from then on is the same, and nobody else is.
func TestTunnelHandsCookiesOn(t *testing.T) {
	legacy := newPeers(t)
	inner := legacy.Config.Handler
	legacy.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "sticky=b; HttpOnly")
		w.Header().Add("Set-Cookie", "session=rolled; Path=/; Secure")
		inner.ServeHTTP(w, r)
	})
	s := serve(t, tunnelEnv(legacy)...)
	events, err := http.NewRequest("GET", "http://"+s.addr+"/_sidestream/tunnel?page="+pageID, nil)
	if err != nil {
		t.Fatal(err)
	}
	events.Header.Set("Cookie", "a=1; session=old")
	stream, err := http.DefaultClient.Do(events)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	post := func(path, cookie, line string) *http.Response {
		t.Helper()
		r, _ := http.NewRequest("POST", "http://"+s.addr+"/_sidestream/tunnel"+path, strings.NewReader(`{"page":"`+pageID+`",`+line+"}\n"))
		r.Header.Set("Cookie", cookie)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	want := []string{"sticky=b; HttpOnly; Path=/socket", "session=rolled; Path=/; Secure"}
	for n, path := range []string{"/socket/x?y=1", "/socket/refused"} {
		if resp := post(path, "a=1; session=old", fmt.Sprintf(`"tunnel":%d,"open":[]`, n+1)); resp.StatusCode != 202 || !slices.Equal(resp.Header["Set-Cookie"], want) {
			t.Errorf("%s: answered %s, Set-Cookie %q", path, resp.Status, resp.Header["Set-Cookie"])
		}
	}
	for cookie, want := range map[string]int{"session=rolled; a=1": 204, "a=1; session=old": 204, "a=1; session=other": 404, "a=1": 404, "a=1; session=rolled; sticky=b": 404} {
		if resp := post("/socket/x?y=1", cookie, `"tunnel":1,"seq":1`); resp.StatusCode != want {
			t.Errorf("with %q: answered %s, want %d", cookie, resp.Status, want)
		}
	}
}
