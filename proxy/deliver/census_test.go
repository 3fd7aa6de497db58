package deliver

import (
	"context"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"sidestream/proxy/stream"
)

// census is what an operator is shown.
func census(c *Clients) (all []Shown) {
	c.Census(context.Background(), func(s Shown) bool { all = append(all, s); return true })
	return all
}

// Every client is shown once, whatever writes to it, with where it comes from and what it has.
func TestCensus(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	if n := len(census(&h.clients)); n != 0 {
		t.Errorf("%d clients before there is one", n)
	}
	h.address.Store(&netip.Addr{})
	sockets := map[netip.AddrPort]bool{}
	for range 6 {
		c, r := h.open("1.1", "")
		defer c.Close()
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		sockets[netip.MustParseAddrPort(c.LocalAddr().String())] = true
	}
	from := netip.MustParseAddr("203.0.113.7")
	h.address.Store(&from)
	c, _ := h.open("1.1", "")
	defer c.Close()
	h.address.Store(&netip.Addr{})
	second := &http.Transport{Protocols: new(http.Protocols)}
	defer second.CloseIdleConnections()
	second.Protocols.SetUnencryptedHTTP2(true)
	for range 2 { // on one connection
		resp, err := (&http.Client{Transport: second}).Get("http://" + h.addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
	}
	eventually(t, "all are there", func() bool { return len(census(&h.clients)) == 9 })
	h.append(say("1"), say("2"))
	eventually(t, "all have both events", func() bool {
		for _, s := range census(&h.clients) {
			if s.At != 2 {
				return false
			}
		}
		return true
	})
	given, multiplexed := 0, map[netip.AddrPort]int{}
	for _, s := range census(&h.clients) {
		if s.Stats != h.route.Stats || s.Ring != h.ring || s.Age > time.Minute || s.Blocked {
			t.Errorf("%+v", s)
		}
		if s.Address == from {
			given++
		} else if s.Address.IsValid() || !s.Socket.IsValid() {
			t.Errorf("%v %v", s.Socket, s.Address)
		} else if !sockets[s.Socket] {
			multiplexed[s.Socket]++
		}
		delete(sockets, s.Socket)
	}
	if given != 1 || len(sockets) != 0 || len(multiplexed) != 1 {
		t.Errorf("%d with an address of a proxy's, %d not seen, by HTTP/2 %v", given, len(sockets), multiplexed)
	}
	if by := h.clients.Count(t.Context()); len(by) != 1 || by[h.ring] != 9 {
		t.Errorf("counted: %v", by)
	}
	seen := 0
	h.clients.Census(t.Context(), func(Shown) bool { seen++; return seen < 3 })
	if seen != 3 {
		t.Errorf("%d were seen, though three are enough", seen)
	}
}
