//go:build linux && !portable

package deliver

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/stream"
)

func TestH2OpenTellsThePlace(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.lastID = ""
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		if got := strings.Join(p.Lines(id)[1:], "|"); got != "event: stream.open|data: {}|id: "+lo.ring.Place(0) {
			t.Errorf("got %q", got)
		}
		lo.ring.Append(say("1"))
		synctest.Wait()
		if got := strings.Join(p.Lines(id), "|"); got != "data: 1|id: "+lo.ring.Place(1) {
			t.Errorf("got %q", got)
		}
		lo.cursor = stream.Begin
		id = p.Ask("GET", "/", nil)
		lo.ring.Append(say("2"))
		synctest.Wait()
		if got := p.Got(id).Body.String(); strings.Count(got, "id: ") < 1 {
			t.Errorf("no id in %q", got)
		}
		p.Conn.Close()
	})
}

func TestH2FirstHeartbeatEventDoesNotWaitForSilence(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.beats = true
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		for n := range 11 {
			lo.ring.Append(say(strconv.Itoa(n)))
			pass(100 * time.Millisecond)
		}
		if n := beatsIn(p.Lines(id)); n != 1 {
			t.Errorf("%d heartbeats in a busy second", n)
		}
		p.Conn.Close()
	})
}

func TestH2Native(t *testing.T) {
	for _, c := range []struct {
		fields [][2]string
		clean  bool
	}{
		{[][2]string{{"cache-control", "no-cache"}, {"user-agent", safari}}, true},
		{[][2]string{{"cache-control", "no-cache"}, {"user-agent", chrome}}, false},
		{[][2]string{{"user-agent", safari}}, false},
	} {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial()
			p.Fields = c.fields
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			const cut = ":\nevent: stream.cut\nid: known\n\nretry: "
			if got := p.Got(id).Body.String(); strings.HasPrefix(got, cut) != c.clean {
				t.Errorf("%v: begins with %q", c.fields, got)
			}
			lo.clients.Drain(time.Second)
			pass(moment)
			if got := p.Got(id); got.Ended != c.clean || (got.Reset == 0) != c.clean {
				t.Errorf("%v: a drained client's stream has ended: %v, reset: %v", c.fields, got.Ended, got.Reset)
			}
			late := p.Ask("GET", "/", nil)
			pass(moment)
			if got := p.Got(late); got.Ended != c.clean || !bytes.Contains(got.Body.Bytes(), []byte("event: stream.busy\ndata: {}\nid: known\n")) {
				t.Errorf("%v: busy is %q, ended: %v", c.fields, got.Body.String(), got.Ended)
			}
			p.Conn.Close()
		})
	}
}
