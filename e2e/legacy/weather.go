package legacy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"time"
)

// report is the body of GET /api/weather.
type report struct {
	Updated  string    `json:"updated"`
	Stations []station `json:"stations"`
}

type station struct {
	City        string  `json:"city"`
	Temperature float64 `json:"temperature"` // degrees Celsius
	Wind        int     `json:"wind"`        // km/h
	Sky         string  `json:"sky"`         // one of skies
}

var skies = []string{"clear", "partly cloudy", "cloudy", "rain", "storm"}

// weather is the present report; rev counts its changes and is its ETag.
type weather struct {
	report report
	rev    int
}

func newWeather(now time.Time) weather {
	return weather{rev: 1, report: report{Updated: stamp(now), Stations: []station{
		{City: "Lisbon", Temperature: 21.4, Wind: 14, Sky: "clear"},
		{City: "Oslo", Temperature: 6.2, Wind: 22, Sky: "cloudy"},
		{City: "Kyoto", Temperature: 16.8, Wind: 7, Sky: "rain"},
	}}}
}

// change replaces the report: the slices of older ones may still be written to clients.
func (w *weather) change(now time.Time) {
	stations := make([]station, len(w.report.Stations))
	for i, st := range w.report.Stations {
		st.Temperature = math.Round((st.Temperature+rand.NormFloat64()*0.6)*10) / 10
		st.Wind = max(0, st.Wind+rand.IntN(7)-3)
		if rand.IntN(4) == 0 {
			st.Sky = skies[rand.IntN(len(skies))]
		}
		stations[i] = st
	}
	w.report = report{stamp(now), stations}
	w.rev++
}

func (s *Service) serveWeather(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	now, etag := s.weather.report, fmt.Sprintf(`"weather-%d"`, s.weather.rev)
	s.mu.Unlock()
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writeJSON(w, http.StatusOK, now)
}
