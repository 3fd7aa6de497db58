package access

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func (g *Guard) revoke(t *testing.T, r Revocation) int {
	t.Helper()
	if err := g.Understands(&r); err != nil {
		t.Fatal(err)
	}
	r.At = time.Now()
	return g.Revoke(&r)
}

// Exactly those go that match all of it.
func TestRevoke(t *testing.T) {
	users := map[string]string{"s=1; theme=dark": "joe", "s=2": "joe", "s=3": "ann", "": "guest"}
	for name, test := range map[string]struct {
		r    Revocation
		ends string
	}{
		"a claim":               {Revocation{Auth: map[string]string{"X-User": "joe"}}, "s=1; theme=dark s=2 "},
		"a cookie":              {Revocation{Cookie: map[string]string{"s": "2"}}, "s=2 "},
		"a cookie among others": {Revocation{Cookie: map[string]string{"theme": "dark"}}, "s=1; theme=dark "},
		"a header":              {Revocation{Header: map[string]string{"cookie": "s=3"}}, "s=3 "},
		"all of it":             {Revocation{Auth: map[string]string{"X-User": "joe"}, Cookie: map[string]string{"s": "1", "theme": "dark"}}, "s=1; theme=dark "},
		"not all of it":         {Revocation{Auth: map[string]string{"X-User": "joe"}, Cookie: map[string]string{"s": "3"}}, ""},
		"nobody":                {Revocation{Cookie: map[string]string{"s": "4"}}, ""},
		"a part of a value":     {Revocation{Cookie: map[string]string{"s": ""}}, ""},
	} {
		app := &service{answer: sessions(users)}
		bubble(t, again(time.Hour), app, func(t *testing.T, g *Guard, _ *logged) {
			readers := map[string][]*reader{}
			for cookie := range users {
				for range 3 {
					c := from("/a", "Cookie", cookie)
					if cookie == "" {
						c = from("/a")
					}
					readers[cookie] = append(readers[cookie], g.seat(t, c))
				}
			}
			cut := g.revoke(t, test.r)
			ends := ""
			for _, cookie := range []string{"s=1; theme=dark", "s=2", "s=3", ""} {
				ended := 0
				for _, r := range readers[cookie] {
					if r.pass.Standing() == http.StatusUnauthorized && r.ended.Load() == 1 {
						ended++
					} else if r.pass.Standing() != Stays || r.ended.Load() != 0 {
						t.Error(r.pass.Standing())
					}
				}
				if ended > 0 {
					ends += cookie + " "
				}
				if ended != 0 && ended != 3 {
					t.Error("some stay")
				}
				cut -= ended
			}
			if ends != test.ends || cut != 0 {
				t.Errorf("%s: %q go, want %q; %d more were counted", name, ends, test.ends, cut)
			}
			n := app.asks()
			if got := g.try(from("/a", "Cookie", "s=2")); got != "in" || app.asks() != n+1 && ends != "" && readers["s=2"][0].pass.Standing() != Stays {
				t.Errorf("%s: the application says that it is good: %s", name, got)
			}
		})
	}
}

func TestWhatCannotBeRevoked(t *testing.T) {
	s := asking
	s.Headers = []string{"X-Key"}
	bubble(t, s, &service{}, func(t *testing.T, g *Guard, _ *logged) {
		for _, r := range []Revocation{{Auth: map[string]string{"sub": "joe"}}, {Cookie: map[string]string{"s": "1"}}, {Header: map[string]string{"Authorization": "x"}}} {
			if g.Understands(&r) == nil {
				t.Errorf("%+v is understood", r)
			}
		}
		if err := g.Understands(&Revocation{Header: map[string]string{"x-key": "1"}, Auth: map[string]string{"X-User": "joe"}}); err != nil {
			t.Error(err)
		}
	})
}

// An answer that was asked for before counts no more, though it comes after; one that is asked for then does.
func TestRevokeWhileAsking(t *testing.T) {
	app := &service{answer: slow(2*time.Second, sessions(map[string]string{"s=1": "joe"}))}
	bubble(t, asking, app, func(t *testing.T, g *Guard, _ *logged) {
		results := make(chan string, 2)
		var all sync.WaitGroup
		all.Go(func() { results <- g.try(from("/a", "Cookie", "s=1")) })
		time.Sleep(time.Second)
		g.revoke(t, Revocation{Cookie: map[string]string{"s": "1"}})
		all.Go(func() {
			synctest.Wait()
			if got := g.try(from("/a", "Cookie", "s=1")); got != "in" {
				t.Error("asked for after: ", got)
			}
		})
		all.Wait()
		if got := <-results; got != "401" || app.asks() != 2 {
			t.Error(got, app.asks())
		}
	})
}

// A token is good for whoever has it, until it expires: one that was issued before stays out.
func TestRevokedTokensStayOut(t *testing.T) {
	app := &service{answer: jwks(signers()["rsa"].jwk())}
	bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
		seen := signers()["rsa"].token(t, claims(map[string]any{"jti": "1"}), nil)
		bare := signers()["rsa"].token(t, claims(map[string]any{"iat": nil, "jti": "2"}), nil)
		one, two := g.seat(t, bearer(seen)), g.seat(t, bearer(bare))
		elsewhere := signers()["rsa"].token(t, claims(map[string]any{"jti": "3"}), nil)
		ann := g.seat(t, bearer(signers()["rsa"].token(t, claims(map[string]any{"sub": "ann"}), nil)))
		time.Sleep(5 * time.Second)
		if cut := g.revoke(t, Revocation{Auth: map[string]string{"sub": "joe"}}); cut != 2 || one.pass.Standing() != 401 || two.pass.Standing() != 401 || ann.pass.Standing() != Stays {
			t.Error(cut)
		}
		for _, token := range []string{seen, bare, elsewhere} {
			if got := g.try(bearer(token)); got != "401" || g.Known(bearer(token)) != nil {
				t.Error("an old token: ", got)
			}
		}
		if got := g.try(bearer(signers()["rsa"].token(t, claims(map[string]any{"jti": "4"}), nil))); got != "in" {
			t.Error("a new login: ", got)
		}
	})
}

// What is remembered of revocations is bounded, on the side of refusing.
func TestRevocationsAreBounded(t *testing.T) {
	app := &service{answer: jwks(signers()["rsa"].jwk())}
	bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
		old := signers()["rsa"].token(t, claims(nil), nil)
		time.Sleep(2 * time.Second)
		g.revoke(t, Revocation{Auth: map[string]string{"sub": "joe"}})
		for i := range 2 * revokedMost {
			g.revoke(t, Revocation{Auth: map[string]string{"sub": fmt.Sprint(i)}})
		}
		if got := g.try(bearer(old)); got != "401" || len(g.revoked.list) != revokedMost {
			t.Error(got, len(g.revoked.list))
		}
		time.Sleep(2 * time.Second)
		if got := g.try(bearer(signers()["rsa"].token(t, claims(nil), nil))); got != "in" {
			t.Error(got)
		}
	})
}
