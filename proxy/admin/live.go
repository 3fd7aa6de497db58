// This file is what the dashboard shows all the time: one event every two seconds.

package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
	"sidestream/translate/sse"
)

const (
	maxWatchers = 32               // dashboards at once
	watchTime   = 10 * time.Second // for one write to a dashboard
)

// Live is the data of an event.
type Live struct {
	At       time.Time        `json:"at"`
	Started  time.Time        `json:"started"`
	Status   Status           `json:"status"`
	Problems []Problem        `json:"problems"`
	Rates    map[string]Rates `json:"rates"` // by route
	Writers  map[string]int64 `json:"writers"`
	Old      int              `json:"websockets"`   // passed through, on any path
	Rejected map[string]int64 `json:"rejected"`     // in the last ten minutes
	Left     map[string]int64 `json:"disconnected"` // in the last ten minutes
	Level    string           `json:"log_level"`
	Log      []tailLine       `json:"log,omitempty"` // since the last event
}

// Rates are what happens to a route, per second of the last ten, and in the last ten minutes.
type Rates struct {
	Events    float64          `json:"events"`
	Delivered float64          `json:"delivered"`
	Bytes     float64          `json:"bytes"`
	Messages  float64          `json:"messages"`
	Answer    *float64         `json:"answer_ms"` // average time of the upstream's answers in the last ten minutes; null: none
	Gaps      map[string]int64 `json:"gaps"`      // in the last ten minutes
}

// live is what is to be shown now, with the log's lines after the one numbered line.
func (a *Port) live(line uint64) Live {
	l := Live{At: time.Now(), Started: a.started, Status: status(a.Proxy, a.Proxy.Ready(), a.Version), Problems: a.problems(), Rates: map[string]Rates{},
		Writers: map[string]int64{}, Old: a.Proxy.WebSockets(), Rejected: map[string]int64{}, Left: map[string]int64{}}
	if l.Problems == nil {
		l.Problems = []Problem{}
	}
	for i, n := range a.Proxy.ClientsByWriter() {
		l.Writers[deliver.Writers[i]] = n
	}
	if a.Lines != nil && a.Lines.Tail != nil {
		l.Level, l.Log = a.Lines.Tail.Level.Level().String(), a.Lines.Tail.after(line)
	}
	long, now, ok := a.samples.span(lookBack)
	if !ok {
		return l
	}
	short, _, _ := a.samples.span(5 * sampleEvery)
	for _, rt := range a.Proxy.Routes() {
		l.Rates[rt.Name] = rates(rt, long, short, now)
	}
	differ(l.Rejected, proxy.Rejections[:], long.rejected[:], now.rejected[:])
	differ(l.Left, deliver.Reasons[:], long.disconnected[:], now.disconnected[:])
	return l
}

// differ sets what has become more.
func differ(to map[string]int64, names []string, from, now []int64) {
	for i, name := range names {
		if n := now[i] - from[i]; n > 0 {
			to[name] = n
		}
	}
}

func rates(rt *proxy.Route, long, short, now sample) Rates {
	seconds := max(now.at.Sub(short.at).Seconds(), 1e-3)
	before, last, first := short.routes[rt.Name], now.routes[rt.Name], long.routes[rt.Name]
	per := func(before, now int64) float64 { return round(float64(now-before) / seconds) }
	r := Rates{Events: per(before.Events, last.Events), Delivered: per(before.Delivered, last.Delivered), Bytes: per(before.Bytes, last.Bytes),
		Messages: per(before.Messages, last.Messages), Gaps: map[string]int64{}}
	if n := last.Answers - first.Answers; n > 0 {
		ms := round(float64(last.AnswerTime-first.AnswerTime) / float64(n) / 1e6)
		r.Answer = &ms
	}
	differ(r.Gaps, stream.GapReasons[:], first.Gaps[:], last.Gaps[:])
	return r
}

// serveLive gives a dashboard its events, until it disconnects or the port closes.
func (a *Port) serveLive(w http.ResponseWriter, r *http.Request) {
	h, out := w.Header(), http.NewResponseController(w)
	h.Set("Content-Type", sse.ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	if a.watchers.Add(1); a.watchers.Load() > maxWatchers {
		a.watchers.Add(-1)
		w.Write(sse.AppendRetry(nil, time.Minute)) // a status would end its EventSource for good
		return
	}
	defer a.watchers.Add(-1)
	if !a.send(w, out, "past", a.past(), 2*time.Second) {
		return
	}
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for line := uint64(0); ; {
		l := a.live(line)
		if n := len(l.Log); n > 0 {
			line = l.Log[n-1].Number
		}
		if !a.send(w, out, "live", l, 0) {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-t.C:
		}
	}
}

// past is the events per second of the last ten minutes, by route.
func (a *Port) past() map[string][]float64 {
	all := map[string][]float64{}
	for _, rt := range a.Proxy.Routes() {
		all[rt.Name] = a.samples.past(rt.Name)
	}
	return all
}

// send writes an event, after a hint when to come back, if retry is not 0. It returns whether the client has taken it.
func (a *Port) send(w http.ResponseWriter, out *http.ResponseController, name string, v any, retry time.Duration) bool {
	data, err := json.Marshal(v)
	if err != nil {
		return false // what it is made of can be marshalled
	}
	var b []byte
	if retry > 0 {
		b = sse.AppendRetry(b, retry)
	}
	out.SetWriteDeadline(time.Now().Add(watchTime)) // where that cannot be set, the connection's end is noticed by itself
	if _, err := w.Write(sse.AppendEvent(b, "", name, data)); err != nil {
		return false
	}
	return out.Flush() == nil
}
