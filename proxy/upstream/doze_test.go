//go:build linux && !portable

package upstream

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

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

// So does one of a byte stream, whose messages are read in pieces.
func TestTurnPieces(t *testing.T) {
	say := make(chan string)
	f := &feed{talk: func(p *peer) {
		p.hear() // CONNECT
		p.say("CONNECTED\nversion:1.2\n\n\x00")
		for text := range say {
			p.say(text)
		}
	}, options: websocket.AcceptOptions{Subprotocols: []string{"v12.stomp"}}}
	f.begun = time.Now()
	server := httptest.NewServer(f)
	defer server.Close()
	defer sockets.CloseIdleConnections()
	defer close(say)
	rt := compiled(t, SourceSettings{From: "ws" + strings.TrimPrefix(server.URL, "http"), Protocol: "stomp", Subscribe: "/topic/a"})
	conn, err := expanded(t, rt, "/").Source(quietLog).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken, got := make(chan bool, 1), ""
	for _, want := range []string{"", "1", "2"} {
		if want != "" {
			say <- "MESSAGE\nsubscription:0\nmessage-id:" + want + "\ndestination:/topic/a\n\n" + want + "\x00"
		}
		turned := make(chan error, 1)
		for got = ""; ; {
			if want != "" && got == "" {
				<-woken
			}
			go func() {
				asleep, err := conn.(Dozer).Turn(ctx, func(ms []translate.Message) error {
					got += write(ms)
					return nil
				}, func() { woken <- true })
				if err == nil && !asleep {
					err = errors.New("neither asleep nor over")
				}
				turned <- err
			}()
			select {
			case err := <-turned:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it does not sleep")
			}
			if got == want {
				break
			}
		}
		if conn.(*wsConn).buf != nil {
			t.Error("it keeps a buffer in its sleep")
		}
	}
}
