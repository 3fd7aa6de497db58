package upstream

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/translate"
)

func TestSubprotocol(t *testing.T) {
	for chosen, want := range map[string]string{"b": "0s 1", "": "0s lost: the upstream chose none of the subprotocols offered; check SUBPROTOCOL"} {
		f := &feed{talk: func(p *peer) { p.say("1"); p.hear() }}
		if chosen != "" {
			f.options.Subprotocols = []string{chosen}
		}
		subscribed(t, Settings{Subprotocol: []string{"a", "b"}}, f, func(t *testing.T, k *taking) {
			k.expect(want)
			if offered := f.requests[0].Header.Get("Sec-WebSocket-Protocol"); offered != "a,b" {
				t.Errorf("offered %q", offered)
			}
		})
	}
}

func TestUpgradeVerdicts(t *testing.T) {
	for name, test := range map[string]struct {
		answer  func(w http.ResponseWriter, r *http.Request)
		refused int // 0: not
		after   time.Duration
	}{
		"401":                {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }, 401, 0},
		"403":                {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, 403, 0},
		"404":                {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, 404, 0},
		"429":                {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Retry-After", "9"); w.WriteHeader(429) }, 0, 9 * time.Second},
		"503":                {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Retry-After", "90"); w.WriteHeader(503) }, 0, 90 * time.Second},
		"200":                {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) }, 0, 0},
		"500 without a word": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, 0, 0},
		"redirect elsewhere": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://login/", http.StatusFound) }, 401, 0},
		"redirect to wss":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "wss://legacy/", http.StatusFound) }, 401, 0},
	} {
		f := &feed{refuse: func(w http.ResponseWriter, r *http.Request) bool { test.answer(w, r); return true }}
		subscribed(t, Settings{}, f, func(t *testing.T, k *taking) {
			synctest.Wait()
			var refused *translate.Refused
			var retry *Retry
			switch {
			case test.refused > 0:
				if !errors.As(k.err, &refused) || refused.Status != test.refused {
					t.Errorf("%s: %v", name, k.err)
				}
			case !errors.As(k.err, &retry) || retry.After != test.after || retry.Lossless:
				t.Errorf("%s: %#v", name, k.err)
			}
		})
	}
}

func TestUpgradeFollowsRedirectsWithin(t *testing.T) {
	for _, location := range []string{"/moved", "ws://legacy/moved", "http://legacy:80/moved"} {
		f := &feed{talk: func(p *peer) { p.say("1"); p.hear() }}
		f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/moved" {
				return false
			}
			http.Redirect(w, r, location, http.StatusTemporaryRedirect)
			return true
		}
		subscribed(t, Settings{}, f, func(t *testing.T, k *taking) { k.expect("0s 1") })
	}
}

func TestNoAnswerToTheUpgrade(t *testing.T) {
	f := &feed{refuse: func(w http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }}
	subscribed(t, Settings{From: "ws://legacy/?token=secret"}, f, func(t *testing.T, k *taking) {
		time.Sleep(dialTime)
		k.expect("10s lost: connect: context deadline exceeded")
	})
}
