package probe

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/translate/sse"
)

// Plan is what a stream is asked for, in its query. All of it is bounded: see [Plan.check].
type Plan struct {
	Events  int           // events= how many, the last one after Silence; 10 unless given
	Every   time.Duration // every= milliseconds between two; 300 unless given
	Size    int           // size= bytes of each; 60 unless given
	Silence time.Duration // silence= milliseconds before the last event; 0 as the others
	Beat    time.Duration // beat= milliseconds between heartbeats in the silence; 0 none
	Cut     bool          // end=cut: it ends as if the network had failed
}

// Query is the plan as [Probe] reads it.
func (l Plan) Query() string {
	q := url.Values{"events": {strconv.Itoa(l.Events)}}
	for name, d := range map[string]time.Duration{"every": l.Every, "silence": l.Silence, "beat": l.Beat} {
		if d > 0 {
			q.Set(name, strconv.FormatInt(d.Milliseconds(), 10))
		}
	}
	if l.Size > 0 {
		q.Set("size", strconv.Itoa(l.Size))
	}
	if l.Cut {
		q.Set("end", "cut")
	}
	return q.Encode()
}

// Length is how long the stream takes.
func (l Plan) Length() time.Duration { return time.Duration(l.Events-1)*l.Every + l.Silence }

const (
	maxEvents = 100
	minSize   = 60
	maxSize   = 1024
)

// planned reads a plan. It fails on one that is out of bounds.
func planned(q url.Values) (l Plan, err error) {
	number := func(name string, unset, least, most int) int {
		n, problem := unset, error(nil)
		if text := q.Get(name); text != "" {
			n, problem = strconv.Atoi(text)
		}
		if err == nil && (problem != nil || n < least || n > most) {
			err = fmt.Errorf("%s must be from %d to %d", name, least, most)
		}
		return n
	}
	millis := func(name string, unset, least int, most time.Duration) time.Duration {
		return time.Duration(number(name, unset, least, int(most.Milliseconds()))) * time.Millisecond
	}
	l.Events, l.Size = number("events", 10, 1, maxEvents), number("size", minSize, minSize, maxSize)
	l.Every = millis("every", 300, 10, time.Second)
	l.Silence, l.Beat = millis("silence", 0, 0, MaxSilence), millis("beat", 0, 0, time.Minute)
	if l.Beat > 0 && l.Beat < 100*time.Millisecond {
		l.Beat = 100 * time.Millisecond
	}
	switch end := q.Get("end"); end {
	case "", "clean":
	case "cut":
		l.Cut = true
	default:
		err = fmt.Errorf("end must be clean or cut")
	}
	return l, err
}

// AppendEvent appends the event n, of size bytes: its number, and when it was sent, in microseconds.
func AppendEvent(dst []byte, n, size int, at time.Time) []byte {
	begin := len(dst)
	dst = fmt.Appendf(dst, `data: {"n":%d,"at":%d,"p":"`, n, at.UnixMicro())
	const end = "\"}\n\n"
	if pad := size - (len(dst) - begin) - len(end); pad > 0 {
		dst = append(dst, strings.Repeat("-", pad)...)
	}
	return append(dst, end...)
}

// stream answers with events as planned.
func (p *Probe) stream(w http.ResponseWriter, r *http.Request) deliver.Rest {
	l, err := planned(r.URL.Query())
	if err != nil {
		return refuse(w, http.StatusBadRequest, err.Error())
	}
	out := deliver.NewStream(w, r, l.Length()+uploadTime)
	defer out.Close()
	for n := 1; n <= l.Events; n++ {
		if n > 1 && !wait(r, l.Every) || n == l.Events && !beat(out, r, l) {
			return out.Cut // the sidecar is stopping, or the asker has gone
		}
		if out.Write(AppendEvent(nil, n, l.Size, time.Now())) != nil {
			return out.Cut
		}
	}
	if !l.Cut {
		return deliver.Answered
	}
	wait(r, 100*time.Millisecond) // what was sent leaves before the cut
	return out.Cut
}

// beat spends the silence of a plan. It reports whether there is still somebody.
func beat(out *deliver.Stream, r *http.Request, l Plan) bool {
	left := l.Silence
	for ; l.Beat > 0 && left > l.Beat; left -= l.Beat {
		if !wait(r, l.Beat) || out.Write([]byte(sse.Heartbeat)) != nil {
			return false
		}
	}
	return wait(r, left)
}

// wait reports whether d went by with r's asker still there.
func wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// poll answers as a long poll does that waits a second: with one event, complete.
func (p *Probe) poll(w http.ResponseWriter, r *http.Request) deliver.Rest {
	if !wait(r, time.Second) {
		return deliver.Answered
	}
	event := AppendEvent(nil, 1, minSize, time.Now())
	w.Header().Set("Content-Type", sse.ContentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(event)))
	w.Write(event)
	return deliver.Answered
}
