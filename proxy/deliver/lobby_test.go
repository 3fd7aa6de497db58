//go:build linux && !portable

package deliver

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"sidestream/proxy/deliver/h2/h2test"
	"sidestream/proxy/stream"
)

// parking is a loom over sockets, where connections are parked.
type parking struct {
	*loom
	addr string
	stop func()
	tls  bool
}

func newParking(t *testing.T, over string) *parking {
	var config *tls.Config
	if over == "TLS" {
		config = selfSigned()
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lo := &loom{bench: &bench{t: t, route: Pacing{Heartbeat: time.Minute, Retry: time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}}}
	lo.ring = stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, &lo.stats, false)
	return &parking{lo, l.Addr().String(), serving(&lo.clients, l, lo, nil, config), config != nil}
}

// dial connects a peer with one client, and waits until it is parked.
func (pa *parking) dial() (p *h2test.Peer, id uint32) {
	pa.t.Helper()
	c, err := net.Dial("tcp", pa.addr)
	if err != nil {
		pa.t.Fatal(err)
	}
	if pa.tls {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	p = h2test.New(pa.t, c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	p.Fields = [][2]string{{"x-a", "in the table"}}
	id = p.Ask("GET", "/", nil)
	eventually(pa.t, "the connection is parked", func() bool { return pa.parked() == 1 })
	return p, id
}

// parked is how many connections are.
func (pa *parking) parked() (n int) {
	_, n = pa.clients.Connections()
	return n
}

func overBoth(t *testing.T, f func(t *testing.T, pa *parking)) {
	for _, over := range []string{"clear", "TLS"} {
		t.Run(over, func(t *testing.T) {
			pa := newParking(t, over)
			f(t, pa)
			pa.stop()
			eventually(t, "every client has left", func() bool { return pa.route.Stats.Clients.Load() == 0 })
			if open, parked := pa.clients.Connections(); open != 0 || parked != 0 {
				t.Errorf("%d connections are open, %d of them parked", open, parked)
			}
		})
	}
}

// TestLobby: a connection that waits there is written to, answers, hears what its client asks for, and notices that it has gone.
func TestLobby(t *testing.T) {
	overBoth(t, func(t *testing.T, pa *parking) {
		p, id := pa.dial()
		defer p.Conn.Close()
		got := func(text string) func() bool {
			return func() bool { return strings.Contains(p.Got(id).Body.String(), text) }
		}
		pa.ring.Append(say("first"))
		eventually(t, "an event", got("data: first\n"))
		for n := range 100 {
			p.Ping()
			eventually(t, "an answer", func() bool { return p.Pings() == n+1 })
		}
		if pa.parked() != 1 {
			t.Error("it is not parked any more")
		}
		sent := h2test.Bulk(300_000)
		echo := p.Ask("POST", "/echo", sent)
		eventually(t, "what it has sent", func() bool { return p.Got(echo).Ended })
		if got := p.Got(echo); !bytes.Equal(got.Body.Bytes(), sent) {
			t.Errorf("%d bytes came back", got.Body.Len())
		}
		if pa.parked() != 0 {
			t.Error("it is parked")
		}
		pa.ring.Append(say("second"))
		eventually(t, "an event after that", got("data: second\n"))
		eventually(t, "it is parked again", func() bool { return pa.parked() == 1 })
		pa.ring.Append(say("third"))
		eventually(t, "an event after that", got("data: third\n"))
		p.Conn.Close()
		eventually(t, "it has left", func() bool {
			open, _ := pa.clients.Connections()
			return open == 0 && pa.route.Stats.Clients.Load() == 0
		})
	})
}

// TestLobbyDrains: clients are sent away, and their connections tell them to go elsewhere.
func TestLobbyDrains(t *testing.T) {
	overBoth(t, func(t *testing.T, pa *parking) {
		p, id := pa.dial()
		pa.clients.Drain(0)
		<-p.Done
		if n, why := p.GoAways(); n == 0 || why != http2.ErrCodeNo || !p.Got(id).Ended && p.Got(id).Reset == 0 {
			t.Errorf("%d GOAWAYs, %v, ended %v, reset %v", n, why, p.Got(id).Ended, p.Got(id).Reset)
		}
		eventually(t, "nothing is left of the connection", func() bool { open, _ := pa.clients.Connections(); return open == 0 })
	})
}

// TestLobbyCloses: what waits there ends with the server.
func TestLobbyCloses(t *testing.T) {
	overBoth(t, func(t *testing.T, pa *parking) {
		p, _ := pa.dial()
		pa.stop()
		<-p.Done
	})
}
