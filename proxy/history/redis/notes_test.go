//go:build e2e

package redis

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sidestream/e2e/redistest"
	"sidestream/proxy/history"
)

// TestNotes checks that all replicas see notes, and that who reads the data does not.
func TestNotes(t *testing.T) {
	server := redistest.Start(t)
	a, b := replica(t, server), replica(t, server)
	at := time.Unix(1_800_000_000, 0)
	if err := a.Note(t.Context(), map[string]time.Time{"/orders websocket": at, "other": at}); err != nil {
		t.Fatal(err)
	}
	if err := b.Note(t.Context(), map[string]time.Time{"other": at.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	got, err := b.Noted(t.Context())
	if err != nil || len(got) != 2 || !got["/orders websocket"].Equal(at) || !got["other"].Equal(at.Add(time.Minute)) {
		t.Errorf("%v, %v", got, err)
	}
	host, port, _ := strings.Cut(server.Addr, ":")
	out, err := exec.Command("redis-cli", "-h", host, "-p", port, "hgetall", a.buckets[0].notes).Output()
	if err != nil || len(out) == 0 || strings.Contains(string(out), "orders") {
		t.Errorf("the data: %q, %v", out, err)
	}
}

// TestNotesGo checks that notes that tell of somebody are removed in time, and that what tells of the watch is read whatever there is.
func TestNotesGo(t *testing.T) {
	server := redistest.Start(t)
	s := replica(t, server)
	now := time.Now().Truncate(time.Second)
	many := map[string]time.Time{"began": now.Add(-2 * history.NotesTime), "[old": now.Add(-history.NotesTime - time.Hour), "watched": now.Add(-time.Hour)}
	for i := range maxNotes + 50 {
		many[fmt.Sprint("[", i)] = now.Add(-time.Duration(i) * time.Second)
	}
	if err := s.Note(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	got, err := s.Noted(t.Context())
	if err != nil || len(got) != maxNotes+2 || got["began"].IsZero() || got["watched"].IsZero() || got["[0"].IsZero() || !got[fmt.Sprint("[", maxNotes)].IsZero() || !got["[old"].IsZero() {
		t.Errorf("%d notes, %v", len(got), err)
	}
	host, port, _ := strings.Cut(server.Addr, ":")
	out, err := exec.Command("redis-cli", "-h", host, "-p", port, "hlen", s.buckets[0].notes).Output()
	if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(maxNotes+2) {
		t.Errorf("there are %s fields, %v", out, err)
	}
}
