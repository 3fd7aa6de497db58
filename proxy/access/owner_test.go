package access

import (
	"log/slog"
	"net/http"
	"testing"
)

// Who a client is outlives a token where a claim is known of it, and is its credentials otherwise.
func TestOwner(t *testing.T) {
	client := func(name, value string) *Client {
		return &Client{Header: http.Header{name: {value}}, Query: func(string) string { return "" }}
	}
	claimed := New(Settings{Methods: []string{Forward}, Headers: []string{"Cookie", "Authorization"}, Claims: []string{"sub"}}, slog.New(slog.DiscardHandler))
	defer claimed.Close()
	pass := func(sub string) *Pass {
		return &Pass{methods: []string{Forward}, forward: Claims{{"sub", sub}}}
	}
	one := claimed.Owner(client("Cookie", "a=1"), pass("ann"))
	if again := claimed.Owner(client("Cookie", "a=2"), pass("ann")); again != one {
		t.Error("another cookie of the same user is another owner")
	}
	if other := claimed.Owner(client("Cookie", "a=1"), pass("bob")); other == one {
		t.Error("another user is the same owner")
	}
	if unknown := claimed.Owner(client("Cookie", "a=1"), pass("")); unknown == one || unknown == claimed.Owner(client("Cookie", "a=2"), pass("")) {
		t.Error("without the claim the credentials do not count")
	}
	if a, b := claimed.Owner(client("Cookie", "x"), pass("")), claimed.Owner(client("Authorization", "x"), pass("")); a == b {
		t.Error("two headers are taken for one another")
	}
}

// A role is nobody's alone: with a token its subject counts too, which outlives it.
func TestOwnerIsTheSubject(t *testing.T) {
	g := New(Settings{Methods: []string{JWT}, Claims: []string{"role"}}, slog.New(slog.DiscardHandler))
	defer g.Close()
	owner := func(token, sub, role string) [32]byte {
		c := &Client{Header: http.Header{"Authorization": {"Bearer " + token}}, Query: func(string) string { return "" }}
		return g.Owner(c, &Pass{methods: []string{JWT}, token: Claims{{"role", role}, {"sub", sub}}})
	}
	ann := owner("1", "ann", "clerk")
	if owner("2", "ann", "clerk") != ann {
		t.Error("another token of the same user is another owner")
	}
	if owner("3", "bob", "clerk") == ann {
		t.Error("another user with the same role is the same owner")
	}
	if owner("1", "ann", "") == owner("1", "", "ann") {
		t.Error("a role is taken for a subject")
	}
}
