package legacy

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

// maxExports bounds what is remembered; the oldest is forgotten first.
const maxExports = 1000

// exportRows is what every export pretends to write.
const exportRows = 48_200

// job is the body of GET /export/{id}.
type job struct {
	ID       string `json:"id"`
	Status   string `json:"status"`   // running or complete
	Progress int    `json:"progress"` // 0 to 100
	Rows     int    `json:"rows"`     // written so far
}

// exports are the jobs' starts. A job's state is its age: nothing needs to run for it.
type exports struct {
	started map[string]time.Time
	order   []string // oldest first
}

func (e *exports) add(id string, now time.Time) {
	if e.started == nil {
		e.started = map[string]time.Time{}
	}
	if len(e.order) == maxExports {
		delete(e.started, e.order[0])
		e.order = e.order[1:]
	}
	e.started[id] = now
	e.order = append(e.order, id)
}

func (s *Service) startExport(w http.ResponseWriter, _ *http.Request) {
	id := strings.ToLower(rand.Text())[:10]
	s.mu.Lock()
	s.exports.add(id, time.Now())
	s.mu.Unlock()
	w.Header().Set("Location", "/export/"+id)
	writeJSON(w, http.StatusAccepted, map[string]string{"id": id})
}

func (s *Service) serveExport(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.mu.Lock()
	start, ok := s.exports.started[id]
	s.mu.Unlock()
	if !ok {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "no such export"})
		return
	}
	writeJSON(w, http.StatusOK, s.progress(id, time.Since(start)))
}

func (s *Service) progress(id string, age time.Duration) job {
	takes := or(s.ExportTakes, defaultExportTakes)
	if age >= takes {
		return job{id, "complete", 100, exportRows}
	}
	return job{id, "running", int(100 * age / takes), int(exportRows * age / takes)}
}
