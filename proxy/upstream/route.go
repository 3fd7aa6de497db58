package upstream

import (
	"fmt"
	"time"
)

// Settings are the texts of one route that this package and translate own the syntax of. Zero values mean the
// defaults of the environment table, except for durations and sizes: those are taken as they are.
type Settings struct {
	PathNames                     []string // the wildcards of the route's PATH, for {path.NAME}
	From                          string
	Headers                       string // one "Name: value" a line
	Forward                       []string
	Protocol                      string // "" raw
	Subprotocol                   []string
	Hello                         string
	Reply                         string
	Ping                          string
	PingEvery                     time.Duration
	Idle                          time.Duration // 0 never
	Every                         time.Duration // 0 at once after each answer
	Mode                          string        // "" changes
	Method                        string
	Body                          string
	Timeout                       time.Duration // 0 none
	Select, Event, Data, ID, Done string
	Binary                        string // "" base64
	MaxMessage                    int    // bytes; 0 no limit
}

// SettingError says what is wrong with one setting.
type SettingError struct {
	Setting string // the environment name's last part, e.g. FROM
	Problem string // what is wrong, and the fix
}

func (e *SettingError) Error() string { return fmt.Sprintf("%s: %s", e.Setting, e.Problem) }

// Route is a compiled route: what turns a client's request into an upstream request.
type Route struct{}

// Compile checks s. Its error joins (errors.Join) one *SettingError for each problem found.
func Compile(s Settings) (*Route, error) { return &Route{}, nil }

// Polls says that the route asks over HTTP rather than subscribing over a WebSocket.
func (rt *Route) Polls() bool { return false }

// Shared says that the route uses nothing of the client's request, so that all its clients share one stream.
func (rt *Route) Shared() bool { return true }
