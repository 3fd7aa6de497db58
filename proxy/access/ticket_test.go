package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func keyOf(t *testing.T, b byte) TicketKey {
	t.Helper()
	k, err := ParseTicketKey(strings.Repeat(fmt.Sprintf("%02x", b), 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newTickets(keys ...TicketKey) *Tickets {
	return NewTickets(TicketSettings{Keys: keys, TTL: time.Minute, Reuse: 12 * time.Hour}, slog.New(slog.DiscardHandler))
}

func (ts *Tickets) sealed(t *testing.T, ticket Ticket) string {
	t.Helper()
	text, _, err := ts.Seal(ticket)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var plainTicket = Ticket{Paths: map[string]Sealed{"/a": {Token: Claims{{"sub", "joe"}}}, "/b/7": {}}, Header: http.Header{"Cookie": {"s=secret1"}}}

// opens reports whether a ticket holds; what holds is what was sealed.
func (ts *Tickets) opens(t *testing.T, text, path, origin string, resumes bool) bool {
	t.Helper()
	ticket, err := ts.Open(text, path, origin, resumes)
	var denied *Denied
	if err != nil && (!errors.As(err, &denied) || denied.Status != 401 || strings.Contains(err.Error(), "secret1")) {
		t.Error(err)
	}
	if err == nil && (ticket.Header.Get("Cookie") != "s=secret1" || ticket.Paths["/a"].Token.text("sub") != "joe") {
		t.Errorf("%+v", ticket)
	}
	return err == nil
}

func TestTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTickets(keyOf(t, 1))
		text, expires, err := ts.Seal(plainTicket)
		if err != nil || !expires.Equal(time.Now().Add(time.Minute)) || strings.Contains(text, "secret1") || strings.ContainsAny(text, "+/=&?%") {
			t.Fatal(text, expires, err)
		}
		if ts.sealed(t, plainTicket) == text {
			t.Error("two tickets are one")
		}
		for range 3 { // it can be used again while it lasts
			if !ts.opens(t, text, "/a", "", false) || !ts.opens(t, text, "/b/7", "", false) {
				t.Error("it does not hold")
			}
		}
		for name, wrong := range map[string][3]string{"another path": {text, "/c", ""}, "below": {text, "/a/x", ""}, "another value": {text, "/b/8", ""},
			"another origin": {text, "/a", "https://other.example"}, "nothing": {"", "/a", ""}, "cut": {text[:len(text)-1], "/a", ""}, "more": {text + "A", "/a", ""},
			"longer": {text + text, "/a", ""}, "no base64": {text[:40] + "!" + text[41:], "/a", ""}, "short": {text[:10], "/a", ""}, "huge": {strings.Repeat("A", ticketMost+1), "/a", ""}} {
			if ts.opens(t, wrong[0], wrong[1], wrong[2], true) {
				t.Errorf("%s: it holds", name)
			}
		}
		for i := range len(text) { // each character counts
			changed := []byte(text)
			if changed[i]++; changed[i] == '{' || changed[i] == '[' || changed[i] == ':' || changed[i] == '.' || changed[i] == '`' {
				changed[i] = '_'
			}
			if string(changed) != text && ts.opens(t, string(changed), "/a", "", true) {
				t.Fatalf("with character %d changed it holds", i)
			}
		}
		other := plainTicket
		other.Origin = "https://app.example"
		if foreign := ts.sealed(t, other); ts.opens(t, foreign, "/a", "", true) || !ts.opens(t, foreign, "/a", "https://app.example", false) {
			t.Error("a ticket is for the origin that it was asked for by")
		}
		time.Sleep(time.Minute - time.Millisecond)
		if !ts.opens(t, text, "/a", "", false) {
			t.Error("it does not hold for its minute")
		}
		time.Sleep(time.Millisecond)
		if ts.opens(t, text, "/a", "", false) || !ts.opens(t, text, "/a", "", true) {
			t.Error("after its minute it is for those who have an id, and no others")
		}
		time.Sleep(12*time.Hour - time.Minute - time.Millisecond)
		if !ts.opens(t, text, "/a", "", true) {
			t.Error("it does not hold for its hours")
		}
		time.Sleep(time.Millisecond)
		if ts.opens(t, text, "/a", "", true) {
			t.Error("it holds for ever")
		}
	})
}

func TestTicketKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, three := keyOf(t, 1), keyOf(t, 2), keyOf(t, 3)
		var next []TicketKey
		ts := NewTickets(TicketSettings{Keys: []TicketKey{one}, TTL: time.Minute, Reuse: time.Hour,
			Reread: func() ([]TicketKey, error) { n := next; next = nil; return n, nil }}, slog.New(slog.DiscardHandler))
		old := ts.sealed(t, plainTicket)
		next = []TicketKey{two, one}
		time.Sleep(time.Second)
		fresh := ts.sealed(t, plainTicket)
		if !ts.opens(t, old, "/a", "", false) || !newTickets(two).opens(t, fresh, "/a", "", false) || newTickets(one).opens(t, fresh, "/a", "", false) {
			t.Error("the first key seals, each opens")
		}
		next = []TicketKey{three, two}
		time.Sleep(time.Second)
		if ts.opens(t, old, "/a", "", false) || !ts.opens(t, fresh, "/a", "", false) {
			t.Error("a key that was taken out opens nothing")
		}
	})
}

func TestTicketsThatAreTooLarge(t *testing.T) {
	large := Ticket{Paths: map[string]Sealed{"/a": {}}, Header: http.Header{"Cookie": {strings.Repeat("x", 6000)}}}
	if _, _, err := newTickets(keyOf(t, 1)).Seal(large); !errors.Is(err, ErrLarge) {
		t.Error(err)
	}
	for _, text := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("g", 64), strings.Repeat("0", 66)} {
		if _, err := ParseTicketKey(text); err == nil || strings.Contains(err.Error(), "000") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// asked is a ticket of a client for /a.
func (g *Guard) asked(t *testing.T, ts *Tickets, c *Client) *Ticket {
	t.Helper()
	p, err := g.Admit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	text := ts.sealed(t, Ticket{Paths: map[string]Sealed{"/a": p.Seal(g)}, Header: c.Header})
	ticket, err := ts.Open(text, "/a", "", true)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func (g *Guard) tryTicket(c *Client, ticket *Ticket) string {
	return outcome(g.AdmitTicket(context.Background(), c, ticket, "/a"))
}

// What is sealed counts until the ticket's end, whatever the token's, unless it is revoked.
func TestTicketsOutliveTheirToken(t *testing.T) {
	app := &service{answer: jwks(signers()["rsa"].jwk())}
	bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
		c, ts := bearer(signers()["rsa"].token(t, claims(nil), nil)), newTickets(keyOf(t, 1))
		issued := time.Now()
		ticket, ann := g.asked(t, ts, c), g.asked(t, ts, bearer(signers()["rsa"].token(t, claims(map[string]any{"sub": "ann"}), nil)))
		time.Sleep(5 * time.Hour)
		if got := g.try(c); got != "401" {
			t.Fatal(got)
		}
		for range 2 {
			p, err := g.AdmitTicket(t.Context(), c, ticket, "/a")
			if err != nil || p.Claim("sub") != "joe" || !p.Until().Equal(issued.Add(12*time.Hour)) {
				t.Fatal(p, err)
			}
			if g.KnownTicket(c, ticket, "/a") != p {
				t.Error("it is not known")
			}
		}
		joe := sit(g.KnownTicket(c, ticket, "/a"))
		if cut := g.revoke(t, Revocation{Auth: map[string]string{"sub": "joe"}}); cut != 1 || joe.pass.Standing() != 401 {
			t.Error(cut)
		}
		if got := g.tryTicket(c, ticket); got != "401" || g.KnownTicket(c, ticket, "/a") != nil {
			t.Error("revoked: ", got)
		}
		if got := g.tryTicket(c, ann); got != "in" {
			t.Error("another's: ", got)
		}
	})
}

// REVALIDATE holds for tickets: they are asked for again with what they were sealed with.
func TestTicketsAreAskedForAgain(t *testing.T) {
	app := &service{answer: sessions(map[string]string{"s=1": "joe"})}
	bubble(t, again(time.Minute), app, func(t *testing.T, g *Guard, _ *logged) {
		c, ts := from("/a", "Cookie", "s=1"), newTickets(keyOf(t, 1))
		ticket := g.asked(t, ts, c)
		if got := g.tryTicket(c, ticket); got != "in" || app.asks() != 1 {
			t.Error(got, app.asks())
		}
		time.Sleep(time.Hour)
		n := app.asks()
		p, err := g.AdmitTicket(t.Context(), c, ticket, "/a")
		if err != nil || p.Claim("X-User") != "joe" || app.asks() != n+1 || app.asked[n].Header.Get("Cookie") != "s=1" {
			t.Fatal(p, err, app.asks()-n)
		}
		r := sit(p)
		app.answers(sessions(nil))
		time.Sleep(time.Minute)
		if r.pass.Standing() != 401 {
			t.Error("it was not asked for")
		}
		if got := g.tryTicket(c, ticket); got != "401" {
			t.Error(got)
		}
		app.answers(status(500))
		time.Sleep(time.Minute)
		if got := g.tryTicket(c, ticket); got != "later" {
			t.Error(got)
		}
	})
	app = &service{answer: sessions(map[string]string{"s=1": "joe"})}
	bubble(t, asking, app, func(t *testing.T, g *Guard, _ *logged) {
		c, ts := from("/a", "Cookie", "s=1"), newTickets(keyOf(t, 1))
		ticket := g.asked(t, ts, c)
		app.answers(sessions(nil))
		time.Sleep(time.Hour)
		if p, err := g.AdmitTicket(t.Context(), c, ticket, "/a"); err != nil || p.Claim("X-User") != "joe" || app.asks() != 1 {
			t.Error(p, err, app.asks())
		}
	})
}
