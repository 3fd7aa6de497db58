package upstream

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

const hubEnd = "\x1e"

// statefulHub is a hub with stateful reconnect, whose nth WebSocket is talked to by the nth of talks; those whose number is in unknown are 404.
func statefulHub(unknown []int, talks ...func(f *feed, p *peer)) *feed {
	f := &feed{}
	sockets := 0
	f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/negotiate") {
			f.note("negotiation")
			io.WriteString(w, `{"negotiateVersion":1,"connectionToken":"t","useStatefulReconnect":true,"availableTransports":[{"transport":"WebSockets","transferFormats":["Text"]}]}`)
			return true
		}
		sockets++
		if slices.Contains(unknown, sockets) {
			f.note("unknown")
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	}
	f.talk = func(p *peer) {
		if len(talks) == 0 {
			f.listen(p)
			return
		}
		talk := talks[0]
		talks = talks[1:]
		talk(f, p)
	}
	return f
}

// begins is a hub that has been asked, and says texts.
func begins(texts ...string) func(f *feed, p *peer) {
	return func(f *feed, p *peer) {
		f.note(p.hear())
		for _, text := range texts {
			p.say(text + hubEnd)
		}
	}
}

// What came is acknowledged once it is kept, a second later; a connection that is lost is gone on with, even if it is lost again before it goes on; one that
// the hub does not know is begun anew at once.
func TestGoesOn(t *testing.T) {
	tick := `{"type":1,"target":"T","arguments":[]}`
	f := statefulHub([]int{4},
		func(f *feed, p *peer) {
			begins("{}")(f, p)
			f.note(p.hear())
			p.say(`{"type":3,"invocationId":"subscribe-1"}`+hubEnd, tick+hubEnd)
			f.note(p.hear())
		},
		func(f *feed, p *peer) {
			begins()(f, p)
			f.note(p.hear())
		},
		func(f *feed, p *peer) {
			begins()(f, p)
			f.note(p.hear())
			p.say(`{"type":9,"sequenceId":3}`+hubEnd, tick+hubEnd)
			f.note(p.hear())
		},
		func(f *feed, p *peer) {
			begins("{}")(f, p)
			f.note(p.hear())
			p.say(`{"type":3,"invocationId":"subscribe-1"}` + hubEnd)
			f.listen(p)
		})
	subscribed(t, SourceSettings{From: "ws://legacy/hub", Protocol: "signalr", Subscribe: "Join"}, f, func(t *testing.T, k *taking) {
		time.Sleep(30 * time.Second)
		k.expect("0s ", "0s T:[]", "1s ", "1s lost: connection lost: EOF", "2s lost: connection lost: EOF", "3s ", "3s T:[]", "4s ", "4s lost: connection lost: EOF", "5s ", "6s ")
		join := `{"type":1,"invocationId":"subscribe-1","target":"Join","arguments":[]}` + hubEnd
		f.expect(t, "0s negotiation", `0s {"protocol":"json","version":2}`+hubEnd, "0s "+join, `1s {"type":8,"sequenceId":2}`+hubEnd,
			`2s {"type":9,"sequenceId":1}`+hubEnd, "2s "+join, `3s {"type":9,"sequenceId":1}`+hubEnd, "3s "+join, `4s {"type":8,"sequenceId":3}`+hubEnd,
			"5s unknown", "5s negotiation", `5s {"protocol":"json","version":2}`+hubEnd, "5s "+join, `6s {"type":8,"sequenceId":1}`+hubEnd, `21s {"type":6}`+hubEnd)
	})
}

// Whether a connection goes on is what the stream is told, also after one that failed.
func TestGoesOnIsResumed(t *testing.T) {
	f := statefulHub([]int{4}, begins("{}"), begins(), begins(`{"type":9,"sequenceId":1}`), begins("{}"))
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		source := expanded(t, compiled(t, SourceSettings{From: "ws://legacy/hub", Protocol: "signalr"}), "/").Source(quietLog)
		var got []string
		for range 4 {
			conn, err := source.Connect(t.Context())
			switch {
			case err != nil:
				got = append(got, "failed")
			case conn.Resumed():
				got = append(got, "resumed")
			default:
				got = append(got, "new")
			}
			if err == nil {
				conn.Run(t.Context(), nothing)
			}
		}
		if text := strings.Join(got, " "); text != "new failed resumed new" {
			t.Error(text)
		}
	})
}

// A connection that another process goes on with is cut; without a history, or where clients send, the hub is told goodbye.
func TestGoesOnElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		handed, sends bool
		want          string
	}{"at home": {want: "1s closed 1001"}, "handed on": {handed: true, want: "1s cut"}, "sends": {handed: true, sends: true, want: "1s closed 1001"}} {
		f := statefulHub(nil, func(f *feed, p *peer) {
			begins("{}")(f, p)
			f.listen(p)
		})
		bubble(t, f.ServeHTTP, func(t *testing.T) {
			f.begun = time.Now()
			source := expanded(t, compiled(t, SourceSettings{From: "ws://legacy/hub", Protocol: "signalr", Send: c.sends}), "/").Source(quietLog)
			conn, err := source.Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.handed && source.Save() == nil {
				t.Error("nothing is saved")
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			conn.Run(ctx, nothing)
			synctest.Wait()
			if got := f.heard[len(f.heard)-1]; got != c.want || strings.Contains(strings.Join(f.heard, " "), `"type":7`) == (got == "1s cut") {
				t.Errorf("%s: %q", name, f.heard)
			}
		})
	}
}

// What is acknowledged is kept before, though it came with an earlier frame.
func TestAcknowledgesWhatIsKept(t *testing.T) {
	f := accepting(nil)
	f.talk = func(p *peer) { p.say("1", "ack"); f.listen(p) }
	s := &spoken{receive: func(_ *spoken, text string) (dialect.Received, error) {
		if text == "ack" {
			return dialect.Received{Acks: []dialect.Frame{{Data: []byte("had")}}}, nil
		}
		return received(text), nil
	}}
	subscribed(t, speaking(t, s, SourceSettings{}), f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second)
		k.expect("0s 1", "0s ")
		f.expect(t, "0s had")
	})
}

func nothing([]translate.Message) error { return nil }
