package learn

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Report is what was concluded. It holds no secret.
type Report struct {
	Routes []Route  `json:"routes"`
	Env    string   `json:"env"`   // the env file
	Notes  []string `json:"notes"` // what was seen and is no route, and why
	Seen   Seen     `json:"seen"`
	Full   bool     `json:"full"` // there was more than is kept
}

// Seen counts what the report is made of.
type Seen struct {
	WebSockets int `json:"websockets"` // that were kept
	Messages   int `json:"messages"`   // that passed
	Answers    int `json:"answers"`    // to GETs, kept
}

// Route is one route that could be.
type Route struct {
	Name      string    `json:"name"`      // as in SSE_ROUTE_<NAME>_
	Path      string    `json:"path"`      // that events would be at
	Old       string    `json:"old"`       // the path that clients use now, as a pattern
	Transport string    `json:"transport"` // websocket or poll
	Protocol  string    `json:"protocol"`  // dialect of a WebSocket, "" for polls
	Settings  []Setting `json:"settings"`  // PATH and FROM among them
	Notes     []string  `json:"notes"`     // what it was concluded from, and what is left to do
	Seen      int       `json:"seen"`      // WebSockets or requests
	Messages  int       `json:"messages"`  // that the service has sent in them
}

// Setting is one of a route's settings, by the last part of its name.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Get is the value of a setting, "" where it is not set.
func (r *Route) Get(name string) string {
	for _, s := range r.Settings {
		if s.Name == name {
			return s.Value
		}
	}
	return ""
}

// draft is a route that is being concluded.
type draft struct {
	Route
	base     *url.URL // of the observation
	host     string   // scheme and host of the service where it is another one
	socket   string
	httpOnly map[string]bool
	asked    map[string]bool
	vault    *vault
}

func (d *draft) set(name, value string) {
	if value != "" {
		d.Settings = append(d.Settings, Setting{name, value})
	}
}

const maxNotes = 24

func (d *draft) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(d.Notes) < maxNotes && !slices.Contains(d.Notes, text) {
		d.Notes = append(d.Notes, text)
	}
}

// service is scheme and host that FROM begins with, for WebSockets or for polls.
func (d *draft) service(webSocket bool) string {
	if d.socket != "" && d.host == "" {
		scheme := "http+unix://"
		if webSocket {
			scheme = "ws+unix://"
		}
		return scheme + d.socket + ":" + strings.TrimSuffix(d.base.EscapedPath(), "/")
	}
	at := d.host
	if at == "" {
		at = d.base.Scheme + "://" + d.base.Host + strings.TrimSuffix(d.base.EscapedPath(), "/")
	}
	if webSocket {
		return "ws" + strings.TrimPrefix(at, "http")
	}
	return at
}
