package deliver

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/stream"
)

// polled is one answer to a poll.
type polled struct {
	body  string
	after time.Duration
	err   error
}

// poll asks once, with a last id.
func (b *bench) poll(t *testing.T, id string) polled {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: b.l.Dial}}
	req, _ := http.NewRequest("GET", "http://b/?poll=1", nil)
	req.Header.Set("Last-Event-ID", id)
	begun := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return polled{err: err, after: time.Since(begun)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.ContentLength != int64(len(body)) || !strings.Contains(resp.Header.Get("Cache-Control"), "no-store") {
		t.Errorf("%s %v, %d bytes of %d", resp.Status, resp.Header, len(body), resp.ContentLength)
	}
	return polled{string(body), time.Since(begun), err}
}

func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.polls = true
		b.ring.Append(say("1"), say("2"))
		id := regexp.QuoteMeta(b.ring.Epoch().String()) + "-"
		matches := func(what string, got polled, after time.Duration, want string) {
			t.Helper()
			if got.err != nil || got.after != after || !regexp.MustCompile("^(?:"+strings.ReplaceAll(want, "ID", id)+")$").MatchString(got.body) {
				t.Errorf("%s: after %v %q %v", what, got.after, got.body, got.err)
			}
		}
		matches("what it has missed", b.poll(t, "x"), 0, `data: 1\nid: ID1\n\ndata: 2\nid: ID2\n\n`)
		b.cursor = 2
		time.AfterFunc(7*time.Second, func() {
			if n := b.clients.ByWriter(); n[ByPoll] != 1 || n[ByGoroutine] != 0 {
				t.Errorf("counted as %v", n)
			}
			b.ring.Append(say("3"))
		})
		matches("what comes", b.poll(t, "x"), 7*time.Second, `data: 3\nid: ID3\n\n`)
		b.cursor = 3
		matches("nothing", b.poll(t, "x"), pollTime, `:\n`)
		b.beats = true
		matches("with heartbeats", b.poll(t, "x"), firstBeat, `event: stream.heartbeat\ndata: \{"every":15000\}\nid: ID3\n\n`)
		b.beats, b.lastID = false, ""
		matches("without an id", b.poll(t, ""), 0, `event: stream.open\ndata: \{\}\nid: ID3\n\n`)
		b.lastID, b.lost = "x", true
		matches("an unknown id", b.poll(t, "x"), 0, `event: stream.gap\ndata: \{"reason":"restart","missed":null\}\nid: ID3\n\n`)
		b.lost = false
		b.pass = access.NewPass(time.Time{})
		time.AfterFunc(time.Second, func() { b.pass.End(401) })
		matches("revoked", b.poll(t, "x"), time.Second, `event: stream.refused\ndata: \{"status":401\}\nid: ID3\n\n`)
		b.pass = nil
		time.AfterFunc(time.Second, func() { b.ring.Close(stream.End{Kind: stream.Refused, Status: 404}) })
		matches("refused", b.poll(t, "x"), time.Second, `event: stream.refused\ndata: \{"status":404\}\nid: ID3\n\n`)
		if n := b.route.Stats.Clients.Load(); n != 0 || b.route.Stats.Disconnected[Polled].Load() != 6 || b.route.Stats.Disconnected[Refused].Load() != 1 || b.route.Stats.Disconnected[Revoked].Load() != 1 {
			t.Errorf("%d are left, %v", n, &b.route.Stats.Disconnected)
		}
		b.close()
	})
}

// A client that leaves while it waits is let go of at once, and one that waits is told when the sidecar drains.
func TestPollEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.polls = true
		c, err := b.l.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /?poll=1 HTTP/1.1\r\nHost: b\r\nLast-Event-ID: x\r\n\r\n")
		time.Sleep(time.Second)
		c.Close()
		synctest.Wait()
		if n := b.route.Stats.Disconnected[Left].Load(); n != 1 {
			t.Errorf("%d have left", n)
		}
		time.AfterFunc(2*time.Second, func() { go b.clients.Drain(time.Minute) })
		if got := b.poll(t, "x"); got.after != 2*time.Second || !regexp.MustCompile(`^retry: \d+\n$`).MatchString(got.body) {
			t.Errorf("%v %q %v", got.after, got.body, got.err)
		}
		if got := b.poll(t, "x"); got.after != 0 || !regexp.MustCompile(`^retry: \d+\nevent: stream.busy\ndata: \{\}\nid: known\n\n$`).MatchString(got.body) {
			t.Errorf("%v %q %v", got.after, got.body, got.err)
		}
		b.close()
	})
}

// Complete streams end a poll with an answer that has nothing, after all that there is.
func TestPollComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.polls = true
		b.ring.Append(say("1"))
		b.ring.Close(stream.End{Kind: stream.Finished})
		if got := b.poll(t, "x"); !strings.HasPrefix(got.body, "data: 1\n") || got.after != 0 {
			t.Errorf("%v %q", got.after, got.body)
		}
		b.cursor = 1
		if got := b.poll(t, "x"); got.body != "" || got.after != 0 || b.route.Stats.Disconnected[Finished].Load() != 2 {
			t.Errorf("%v %q %v", got.after, got.body, &b.route.Stats.Disconnected)
		}
		b.close()
	})
}

// Answers are bounded, and one after the other has each event once.
func TestPollIsBounded(t *testing.T) {
	for _, size := range []int{200, 20_000, 150_000, 500_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) { pollsAreBounded(t, max(2_000_000/size, 5), size) })
	}
}

func pollsAreBounded(t *testing.T, events, size int) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.polls = true
		for i := range events {
			b.ring.Append(say(fmt.Sprint(i, " ", strings.Repeat("x", size))))
		}
		next, id := 0, "x"
		for answers := 1; next < events; answers++ {
			got := b.poll(t, id)
			if len(got.body) > pollMost+size+1000 || got.after != 0 {
				t.Fatalf("%d bytes after %v in answer %d", len(got.body), got.after, answers)
			}
			for _, m := range regexp.MustCompile(`data: (\d+) `).FindAllStringSubmatch(got.body, -1) {
				if m[1] != fmt.Sprint(next) {
					t.Fatalf("%s in place of %d", m[1], next)
				}
				next++
			}
			b.cursor = uint64(next)
		}
		b.close()
	})
}

func TestPollsIsAsked(t *testing.T) {
	for query, want := range map[string][2]bool{"poll=1": {true, false}, "a=b&poll=held": {true, true}, "poll=2": {}, "poll": {}, "": {}, "xpoll=1": {}} {
		r := httptest.NewRequest("GET", "/?"+query, nil)
		if Polls(r) != want[0] || HeldBack(r) != want[1] {
			t.Errorf("%s", query)
		}
	}
}

// An answer that its client does not take is not gone on with once that is revoked: it holds what the client may not see any more.
func TestPollRevokedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.polls, b.pass = true, access.NewPass(time.Time{})
		b.ring.Append(say(strings.Repeat("x", 100_000)))
		c, err := b.l.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /?poll=1 HTTP/1.1\r\nHost: b\r\nLast-Event-ID: x\r\n\r\n")
		time.Sleep(2 * time.Second)
		b.pass.End(401)
		time.Sleep(moment)
		synctest.Wait()
		if n := b.route.Stats.Disconnected[Revoked].Load(); n != 1 || b.route.Stats.Clients.Load() != 0 {
			t.Errorf("%d are there, %v", b.route.Stats.Clients.Load(), &b.route.Stats.Disconnected)
		}
		if rest, _ := io.ReadAll(c); len(rest) > 0 {
			t.Errorf("it gets %d bytes", len(rest))
		}
		b.close()
	})
}
