package upstream

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// "Too old" may stand inside of an answer that is 200 and stays open: Kubernetes and etcd 3 say it so.
func TestFollowResetsByRecord(t *testing.T) {
	for name, test := range map[string]struct{ reset, verdict string }{
		"Kubernetes": {`.type=="ERROR" and .object.code==410`, `{"type":"ERROR","object":{"kind":"Status","code":410}}`},
		"etcd 3":     {`.result.canceled`, `{"result":{"canceled":true,"compact_revision":"7"}}`},
	} {
		a := streaming("application/json", func(n int, say func(string), r *http.Request) {
			switch n {
			case 1:
				say(`{"rv":5,"n":1}` + "\n")
				time.Sleep(time.Second)
			case 2:
				say(`{"rv":6,"n":2}` + "\n" + test.verdict + "\n" + `{"rv":99,"n":3}` + "\n")
				<-r.Context().Done()
			default:
				say(`{"rv":8,"n":4}` + "\n")
				<-r.Context().Done()
			}
		})
		s := SourceSettings{Mode: ModeStream, From: "http://legacy/watch?from={stream.cursor}", First: "http://legacy/list", Cursor: ".rv",
			Reset: test.reset, Data: ".n"}
		polled(t, s, a, func(k *taking) {
			time.Sleep(20 * time.Second)
			k.expect("0s 1", "1s lost: the upstream ended its answer", "2s 2", "2s lost: the cursor is too old", "3s 4")
			if got := a.asked(); !slices.Equal(got, []string{"/list", "/watch?from=5", "/list"}) {
				t.Errorf("%s: asked for %q", name, got)
			}
		})
	}
}

// A stream may go on from its last id alone. Without any place, RESET has nothing to forget.
func TestFollowResetsLastID(t *testing.T) {
	a := streaming("text/event-stream", func(n int, say func(string), r *http.Request) {
		if n == 1 {
			say("id: 5\ndata: 1\n\n")
			return
		}
		say("data: \"stale\"\n\ndata: 2\n\n")
		<-r.Context().Done()
	})
	polled(t, SourceSettings{Mode: ModeStream, Reset: `.=="stale"`}, a, func(k *taking) {
		time.Sleep(2500 * time.Millisecond)
		k.expect("0s 1#5", "0s lost: the upstream ended its answer", "1s lost: the cursor is too old", "2s lost: RESET is true, but there is no cursor to forget")
		ids := a.told(func(r *http.Request) string { return r.Header.Get("Last-Event-ID") })
		if !slices.Equal(ids, []string{"", "5", ""}) {
			t.Errorf("last ids %q", ids)
		}
	})
}

// RESET is asked of an answer with a status, and its body, too.
func TestFollowResetsByAnswer(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 2 {
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"errorCode":401}`))
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Write([]byte(`{"rv":5}` + "\n"))
		if n > 2 {
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}}
	s := SourceSettings{Mode: ModeStream, From: "http://legacy/watch?from={stream.cursor:0}", Cursor: ".rv", Reset: ".errorCode==401"}
	polled(t, s, a, func(k *taking) {
		time.Sleep(20 * time.Second)
		k.expect(`0s {"rv":5}`, "0s lost: the upstream ended its answer", "1s lost: the cursor is too old", `2s {"rv":5}`)
		targets(t, a, "/watch?from=0", "/watch?from=5", "/watch?from=0")
	})
}

// The README's settings for Kubernetes: the list, which is one value without a line end, then its changes.
func TestFollowKubernetes(t *testing.T) {
	list := `{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}`
	a := streaming("application/json", func(n int, say func(string), r *http.Request) {
		if r.URL.RawQuery == "" {
			say(list)
			return
		}
		switch n {
		case 2:
			say(`{"type":"ADDED","object":{"metadata":{"name":"c","resourceVersion":"6"}}}` + "\n" + `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}` + "\n")
		case 3:
			say(`{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410}}` + "\n")
			<-r.Context().Done()
		default:
			<-r.Context().Done()
		}
	})
	s := SourceSettings{Mode: ModeStream, First: "http://api/pods", From: "http://api/pods?watch=1&resourceVersion={stream.cursor}",
		Select: `if .items then .items[] else select(.type!="BOOKMARK").object end`, Data: ".metadata.name",
		Cursor: "(.object//.).metadata.resourceVersion", Reset: `status==410 or (.type=="ERROR" and .object.code==410)`}
	polled(t, s, a, func(k *taking) {
		time.Sleep(10 * time.Second)
		k.expect("0s a b", "0s lost: the upstream ended its answer", "1s c", "1s lost: the upstream ended its answer",
			"2s lost: the cursor is too old", "3s a b", "3s lost: the upstream ended its answer")
		targets(t, a, "/pods", "/pods?watch=1&resourceVersion=5", "/pods?watch=1&resourceVersion=9", "/pods", "/pods?watch=1&resourceVersion=5")
	})
}
