package web

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func get(s *Scripts, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	in := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		in = z
	}
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSize(t *testing.T) {
	s := New([]string{"/socket", "/cable"})
	files := []string{"hub.mjs"} // which events.js loads
	for _, name := range names {
		files = append(files, name+".js", name+".mjs")
	}
	for _, name := range files {
		if n := len(s.files[Path+name].zipped); n >= 4<<10 || n < 1<<10 {
			t.Errorf("%s is %d bytes compressed, want 1 to 4 KiB", name, n)
		}
	}
}

func TestServing(t *testing.T) {
	s := New([]string{"/socket"})
	for name := range s.files {
		plain, zipped := get(s, "GET", name), get(s, "GET", name, "Accept-Encoding", "br;q=1, gzip;q=0.5")
		text := body(t, plain)
		if zipped.Header.Get("Content-Encoding") != "gzip" || body(t, zipped) != text || len(text) < 500 {
			t.Errorf("%s: compressed it is something else", name)
		}
		if plain.Header.Get("ETag") == zipped.Header.Get("ETag") || plain.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: one tag for two bodies: %v", name, plain.Header)
		}
		for key, want := range map[string]string{"Content-Type": s.files[name].kind, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"} {
			if got := zipped.Header.Get(key); got != want {
				t.Errorf("%s: %s: %q, want %q", name, key, got, want)
			}
		}
		head := get(s, "HEAD", name)
		if head.ContentLength != int64(len(text)) || body(t, head) != "" {
			t.Errorf("%s: HEAD announces %d bytes of %d", name, head.ContentLength, len(text))
		}
		for _, tag := range []string{plain.Header.Get("ETag"), `"other", W/` + zipped.Header.Get("ETag"), "*"} {
			if again := get(s, "GET", name, "If-None-Match", tag); again.StatusCode != 304 || body(t, again) != "" {
				t.Errorf("%s: If-None-Match: %s: status %d", name, tag, again.StatusCode)
			}
		}
		if again := get(s, "GET", name, "If-None-Match", `"other"`); again.StatusCode != 200 {
			t.Errorf("%s: status %d for another tag", name, again.StatusCode)
		}
		if resp := get(s, "POST", name); resp.StatusCode != 405 || resp.Header.Get("Allow") == "" {
			t.Errorf("%s: POST: status %d", name, resp.StatusCode)
		}
		if resp := get(s, "GET", name, "Accept-Encoding", "gzip;q=0"); resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed for one who refuses that", name)
		}
	}
	for _, path := range []string{"/websocket.js", Path, Path + "websocket", Path + "min/websocket.js"} {
		if s.Has(path) {
			t.Errorf("%s is no script", path)
		}
	}
}

// Whatever a prefix holds, it stays a string, and a change of it is a change of the script.
func TestPrefixes(t *testing.T) {
	prefixes := []string{"/a", `/"];alert(1)//`, "/</script><!--", "/\u2028\u2029\\"}
	s := New(prefixes)
	text := body(t, get(s, "GET", Path+"websocket.js"))
	_, list, _ := strings.Cut(text, `=["/a"`)
	var back []string
	if err := json.NewDecoder(strings.NewReader(`["/a"` + list)).Decode(&back); err != nil || strings.Join(back, "\n") != strings.Join(prefixes, "\n") {
		t.Errorf("%q, %v", back, err)
	}
	if strings.ContainsAny(text, "<>\u2028\u2029") && strings.Contains(text, "</script") {
		t.Error("a prefix can end the script")
	}
	if bytes.Contains([]byte(text), []byte("\u2028")) {
		t.Error("a prefix ends the line")
	}
	if get(New(nil), "GET", Path+"websocket.js").Header.Get("ETag") == get(s, "GET", Path+"websocket.js").Header.Get("ETag") {
		t.Error("other prefixes, the same tag")
	}
	if text := body(t, get(New(nil), "GET", Path+"websocket.js")); !strings.Contains(text, "=[]") {
		t.Error("no prefixes are no list")
	}
}

// The page of doctor has no script or style within, so its policy allows none, and asks for nothing by a path that a proxy may have changed.
func TestDoctorPage(t *testing.T) {
	s := New(nil)
	resp := get(s, "GET", Path+"doctor")
	policy, text := resp.Header.Get("Content-Security-Policy"), body(t, resp)
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("policy %q", policy)
	}
	if got := resp.Header.Get("Cross-Origin-Resource-Policy"); got != "same-origin" {
		t.Errorf("%q", got)
	}
	for _, part := range []string{"<style", " style=", " onclick", `="/`, "//"} {
		if strings.Contains(text, part) {
			t.Errorf("the page has %q", part)
		}
	}
	for _, name := range []string{"doctor.js", "doctor.css"} {
		if !strings.Contains(text, `="`+name+`"`) || !s.Has(Path+name) {
			t.Errorf("%s is not there", name)
		}
	}
	if got := get(s, "GET", Path+"events.js").Header.Get("Content-Security-Policy"); got != "" {
		t.Errorf("a script has a policy: %q", got)
	}
}
