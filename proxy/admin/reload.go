package admin

import (
	"net/http"
	"time"

	"sidestream/proxy"
)

// reload has the configuration read again, and tells what has come of it.
func (a Port) reload(w http.ResponseWriter, _ *http.Request) {
	if a.Reload == nil {
		http.Error(w, "this sidecar's configuration cannot be read again", http.StatusNotFound)
		return
	}
	report := a.Reload("POST /api/reload")
	code := http.StatusOK
	if len(report.Problems) > 0 {
		code = http.StatusUnprocessableEntity
	}
	answerJSON(w, code, report)
}

// ConfigStatus is how the configuration is.
type ConfigStatus struct {
	Loaded time.Time `json:"loaded"`          // when it was read last, with success
	Tried  time.Time `json:"tried"`           // when it was read last
	Error  string    `json:"error,omitempty"` // why that failed, one problem a line; the one from Loaded is in use
}

func configStatus(p *proxy.Proxy) ConfigStatus {
	last := p.Reloads.Last()
	s := ConfigStatus{Loaded: last.At, Tried: last.Tried}
	if last.Failed != nil {
		s.Error = last.Failed.Error()
	}
	return s
}

// reloads sends what has come of reloads.
func reloads(send func(metric, float64, ...string), rs *proxy.Reloads) {
	send(reloaded, float64(rs.OK.Load()), "ok")
	send(reloaded, float64(rs.Unchanged.Load()), "unchanged")
	send(reloaded, float64(rs.Failed.Load()), "failed")
	last, good := rs.Last(), 1.0
	if last.Failed != nil {
		good = 0
	}
	send(reloadGood, good)
	send(reloadAt, float64(last.At.UnixMilli())/1000)
}
