package upstream

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sidestream/translate"
)

// What a file holds now goes out with the next dial or request, of streams that are open too.
func TestFilesAreReadAgain(t *testing.T) {
	for name, from := range map[string]string{"socket": "ws://legacy/feed?key={query.key:k}", "poll": "http://legacy/poll?key={query.key:k}"} {
		var mu sync.Mutex // guards what the next call of Reread says
		var now *SourceSettings
		var failed error
		s := SourceSettings{From: from, Headers: "X-Token: Bearer one{query.who:}", Every: 2 * time.Second, Idle: time.Minute, Mode: ModeEvery, MaxMessage: 1 << 20}
		if name == "socket" {
			s.Every, s.Mode = 0, ""
			s.Hello = "> login one"
		}
		s.Reread = func() (*SourceSettings, error) {
			mu.Lock()
			defer mu.Unlock()
			changed := now
			now = nil
			return changed, failed
		}
		f := &feed{talk: func(p *peer) { p.hear(); time.Sleep(time.Second) }}
		if name == "poll" {
			f.refuse = func(w http.ResponseWriter, _ *http.Request) bool { w.Write([]byte("1")); return true }
		}
		tokens := func() (all string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, r := range f.requests {
				all += " " + r.Header.Get("X-Token")
			}
			f.requests = nil
			return strings.ReplaceAll(all, "Bearer ", "")
		}
		subscribed(t, s, f, func(t *testing.T, k *taking) {
			change := func(f func(*SourceSettings)) {
				changed := s
				changed.Reread = nil
				f(&changed)
				mu.Lock()
				defer mu.Unlock()
				now = &changed
			}
			time.Sleep(3 * time.Second)
			if got := tokens(); !strings.HasPrefix(got, " one one") {
				t.Errorf("%s: at first%s", name, got)
			}
			change(func(s *SourceSettings) { s.Headers = "X-Token: Bearer two{query.who:}" })
			time.Sleep(4 * time.Second)
			if got := tokens(); !strings.HasSuffix(got, " two two") {
				t.Errorf("%s: changed:%s", name, got)
			}
			change(func(s *SourceSettings) { s.Headers = "X-Token: Bearer three{query.who:}\nX-More: 1" })
			time.Sleep(4 * time.Second)
			mu.Lock()
			failed = errors.New("SSE_X_FILE: cannot be read")
			mu.Unlock()
			time.Sleep(4 * time.Second)
			if got := tokens(); strings.Contains(got, "three") || !strings.Contains(got, "two two") {
				t.Errorf("%s: of another shape, or not there:%s", name, got)
			}
			log := k.log.String()
			for said, n := range map[string]int{"have changed; the new values are in use": 1, "which takes a reload": 1, "SSE_X_FILE: cannot be read": 1} {
				if strings.Count(log, said) != n {
					t.Errorf("%s: %q is said %d times: %s", name, said, strings.Count(log, said), log)
				}
			}
			if strings.Contains(log, "Bearer") {
				t.Errorf("%s: a credential is in the log: %s", name, log)
			}
		})
	}
}

// A rotation parts nobody: the same clients have the same stream before and after.
func TestRereadIdentity(t *testing.T) {
	text := "one"
	s := SourceSettings{From: "ws://legacy/feed", Headers: "X-Token: one\nX-Who: {query.who}", MaxMessage: 1 << 20}
	s.Reread = func() (*SourceSettings, error) {
		changed := s
		changed.Reread, changed.Headers = nil, "X-Token: "+text+"\nX-Who: {query.who}"
		return &changed, nil
	}
	rt := compiled(t, s)
	a, b := expanded(t, rt, "/?who=a"), expanded(t, rt, "/?who=b")
	if a.Key == b.Key {
		t.Error("two clients share a stream")
	}
	text = "two"
	rt.files.looked = time.Time{}
	rt.reread(slog.New(slog.DiscardHandler))
	if again := expanded(t, rt, "/?who=a"); again.Key != a.Key {
		t.Error("the same client has another stream after a rotation")
	}
	value := func(string) string { return "" }
	if _, h, err := a.fill(value, false); err != nil || h.Get("X-Token") != "two" || h.Get("X-Who") != "a" {
		t.Errorf("%v, %v", h, err)
	}
	if same := (translate.Text{}).AppendLive("1.0", func() string { return "" }).Identity(nil); string(same) == string(translate.Literal("1.0").Identity(nil)) {
		t.Error("a place is taken for a text")
	}
}
