//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	random "math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"sidestream/e2e/page"
)

// soakTunnel is a page with WebSockets to an echo, over and over: it comes, is cut and comes back, closes what it has or vanishes.
type soakTunnel struct {
	*soaker
	base string
	pace time.Duration // between two messages of a tunnel, about
	own  func() *http.Transport
}

func (s *soakTunnel) run(ctx context.Context, t *testing.T) {
	for rests(ctx, s.pause); ctx.Err() == nil; rests(ctx, s.pause) {
		transport := s.own()
		s.page(ctx, t, transport)
		transport.CloseIdleConnections()
	}
}

// page is one page, with one tunnel after the other.
func (s *soakTunnel) page(ctx context.Context, t *testing.T, transport *http.Transport) {
	p := &page.Page{Base: s.base, ID: rand.Text(), Header: http.Header{"Cookie": {"user=" + s.user}}, Client: &http.Client{Transport: transport}}
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := p.Begin(soon)
	defer p.End()
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s: a page does not begin: %v", s.user, err)
		}
		return
	}
	s.stats.opened.Add(1)
	life, cancel := context.WithTimeout(ctx, lasts(s.life))
	defer cancel()
	for n := 1; life.Err() == nil && s.tunnel(ctx, life, t, p, n); n++ {
		rests(life, s.pause)
	}
}

// tunnel is one WebSocket, whose every message comes back once and in order. It reports whether another one may follow.
func (s *soakTunnel) tunnel(ctx, life context.Context, t *testing.T, p *page.Page, number int) bool {
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ws, err := p.Dial(soon, number, "/echo?"+s.user)
	if err != nil {
		if ctx.Err() == nil {
			t.Errorf("%s: tunnel %d: %v", s.user, number, err)
		}
		return false
	}
	s.stats.tunnels.Add(1)
	half, cancel := context.WithTimeout(life, lasts(s.life/2))
	defer cancel()
	message := func(n int) page.Message {
		m := page.Message{Binary: n%5 == 0, Data: fmt.Sprintf("%s %d %d\x00é", s.user, number, n)}
		if n%50 == 7 { // a large one
			m.Data += strings.Repeat("q", 20<<10)
		}
		return m
	}
	sent, got := 0, 0
	for half.Err() == nil {
		for range 1 + random.N(3) {
			ws.Send(message(sent))
			sent++
		}
		if random.N(5) == 0 {
			p.Cut() // with what is on its way
			s.stats.reattached.Add(1)
		}
		if random.N(40) == 0 {
			return false // vanishes: nobody waits for what is on its way
		}
		soon, cancel := context.WithTimeout(ctx, patience)
		for ; got < sent; got++ {
			m, ok := ws.Receive(soon)
			if want := message(got); !ok || m != want {
				if ctx.Err() == nil {
					t.Errorf("%s: message %d of tunnel %d: %v %.40q, want %.40q; %d wait", s.user, got, number, ok, m.Data, want.Data, ws.Waiting())
				}
				cancel()
				return false
			}
			s.stats.echoed.Add(1)
		}
		cancel()
		select {
		case <-half.Done():
		case <-time.After(s.pace/2 + random.N(s.pace)):
		}
	}
	if ctx.Err() != nil || random.N(4) == 0 {
		return false // vanishes
	}
	ws.Close("4001 done")
	if how := ws.Closed(); (how.Code != 4001 || !how.Clean) && ctx.Err() == nil {
		t.Errorf("%s: tunnel %d is closed with %+v", s.user, number, how)
	}
	return true
}
