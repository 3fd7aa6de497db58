//go:build linux && !portable

package upstream

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

// A WebSocket that nothing comes on leaves its goroutine alone; what comes, and its end, wakes it.
func TestTurn(t *testing.T) {
	say, heard := make(chan string), make(chan string, 1)
	f := &feed{talk: func(p *peer) {
		go func() { // ends with the test
			for text := range say {
				p.say(text)
			}
		}()
		heard <- p.hear()
	}}
	f.begun = time.Now()
	server := httptest.NewServer(f)
	defer server.Close()
	defer sockets.CloseIdleConnections()
	defer close(say)
	rt := compiled(t, SourceSettings{From: "ws" + strings.TrimPrefix(server.URL, "http"), Idle: time.Hour})
	conn, err := expanded(t, rt, "/").Source(quietLog).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken, got := make(chan bool, 1), ""
	turn := func() (bool, error) {
		return conn.(Dozer).Turn(ctx, func(ms []translate.Message) error {
			got += write(ms) + ";"
			return nil
		}, func() { woken <- true })
	}
	wakes := func() {
		t.Helper()
		select {
		case <-woken:
		case <-time.After(10 * time.Second):
			t.Fatal("nobody is woken")
		}
	}
	sleeps := func() {
		t.Helper()
		if asleep, err := turn(); !asleep || err != nil {
			t.Fatalf("asleep: %v, %v", asleep, err)
		}
	}
	sleeps()
	for _, text := range []string{"1", "2", strings.Repeat("x", 100<<10)} {
		got = ""
		say <- text
		for got == "" { // what comes in parts wakes with the first
			wakes()
			sleeps()
		}
		if got != text+";" {
			t.Errorf("emitted %.100q", got)
		}
	}
	cancel()
	wakes()
	if asleep, err := turn(); asleep || !errors.Is(err, context.Canceled) {
		t.Errorf("asleep: %v, %v", asleep, err)
	}
	if bye := <-heard; bye != "closed 1001" {
		t.Errorf("the upstream has heard %q", bye)
	}
}
