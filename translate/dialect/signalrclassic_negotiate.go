// This file finds out where and how to dial ASP.NET SignalR.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	classicAsked  = "2.1" // version in the negotiation: from 2.0 on it may be redirected
	classicSpoken = "1.3" // of the connection
)

// classicQuery are the names in a query that are the dialect's own.
var classicQuery = []string{"transport", "clientProtocol", "connectionToken", "connectionData", "messageId", "groupsToken", "tid"}

// Dial negotiates first, unless it goes on.
func (s *signalRClassic) Dial(last *HTTPResponse) (Dial, error) {
	if last != nil {
		return s.negotiated(last.Body)
	}
	if err := s.read(); err != nil {
		return Dial{}, err
	}
	if s.stands && s.elsewhere.URL != "" {
		return s.connect(s.elsewhere)
	}
	own, err := s.Options.Dial()
	if err != nil {
		return Dial{}, err
	}
	if own, err = classicBase(own); err != nil {
		return Dial{}, err
	}
	if s.stands {
		return s.connect(own)
	}
	s.forget()
	s.at, s.hops = own, 0
	return s.negotiate()
}

// read reads SUBSCRIBE.
func (s *signalRClassic) read() error {
	lines, err := s.Subscribe()
	if err != nil {
		return err
	}
	s.lines, s.data = nil, ""
	var hubs []any
	var names []string
	for i, line := range lines {
		l, err := parseClassicLine(line)
		if err != nil {
			return refuseLine(i+1, err)
		}
		s.lines = append(s.lines, l)
		if name := strings.ToLower(l.hub); !slices.Contains(names, name) { // servers take none twice
			names, hubs = append(names, name), append(hubs, map[string]any{"name": l.hub})
		}
	}
	if len(hubs) > 0 {
		s.data = string(jsonFrame(hubs).Data)
	}
	return nil
}

// classicBase is own without what a WebSocket's address has more than the server's.
func classicBase(own Dial) (Dial, error) {
	u, err := url.Parse(own.URL)
	if err != nil {
		return Dial{}, errors.New("FROM is not an address")
	}
	for _, name := range []string{"/connect", "/reconnect"} {
		if u.Query().Has("connectionToken") {
			u.Path, u.RawPath = strings.TrimSuffix(u.Path, name), strings.TrimSuffix(u.RawPath, name)
		}
	}
	var kept []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if name, _, _ := strings.Cut(pair, "="); pair != "" && !slices.Contains(classicQuery, name) {
			kept = append(kept, pair)
		}
	}
	u.RawQuery = strings.Join(kept, "&")
	own.URL = u.String()
	if own.Header == nil {
		own.Header = http.Header{}
	}
	return own, nil
}

// address is that of what a server offers under a name, with pairs of names and values after the query.
func (s *signalRClassic) address(at Dial, name string, pairs ...string) (*url.URL, error) {
	base, err := url.Parse(at.URL)
	if err != nil {
		return nil, errors.New("negotiate: the server's address is not valid")
	}
	u := under(base, name)
	if s.data != "" {
		pairs = append(pairs, "connectionData", s.data)
	}
	for i := 0; i < len(pairs); i += 2 {
		u.RawQuery = withQuery(u.RawQuery, pairs[i]+"="+url.QueryEscape(pairs[i+1]))
	}
	return &u, nil
}

// negotiate is the request.
func (s *signalRClassic) negotiate() (Dial, error) {
	u, err := s.address(s.at, "negotiate", "clientProtocol", classicAsked)
	if err != nil {
		return Dial{}, err
	}
	u.Scheme = schemeOf("http", "https", secured(u))
	h := s.at.Header.Clone()
	h.Set("X-Requested-With", "XMLHttpRequest") // or cookie authentication answers with a redirect to its login page
	return Dial{Request: &HTTPRequest{Method: http.MethodGet, URL: u.String(), Header: h}}, nil
}

// connect is the dial of the connection, from where it was left.
func (s *signalRClassic) connect(at Dial) (Dial, error) {
	pairs := []string{"transport", "webSockets", "clientProtocol", classicSpoken, "connectionToken", s.token}
	if s.stands {
		pairs = append(pairs, "messageId", s.written)
		if s.groups != "" {
			pairs = append(pairs, "groupsToken", s.groups)
		}
	}
	u, err := s.address(at, "connect", pairs...)
	if err != nil {
		return Dial{}, err
	}
	u.Scheme = schemeOf("ws", "wss", secured(u))
	at.URL, at.Header = u.String(), at.Header.Clone()
	return at, nil
}

// classicAnswer is what negotiate answers. Times are in seconds.
type classicAnswer struct {
	ConnectionToken     string
	KeepAliveTimeout    *float64
	DisconnectTimeout   *float64
	TryWebSockets       *bool
	ProtocolVersion     string
	RedirectURL         string `json:"RedirectUrl"`
	AccessToken         string
	Error               string
	AvailableTransports json.RawMessage // of ASP.NET Core SignalR
}

func (s *signalRClassic) negotiated(body []byte) (Dial, error) {
	if s.at.Header == nil {
		return Dial{}, errors.New("negotiate: an answer to no question")
	}
	var a classicAnswer
	if json.Unmarshal(body, &a) != nil {
		return Dial{}, errors.New("negotiate: the answer is not what ASP.NET SignalR says; FROM must be the address of its hubs, such as /signalr, or of a persistent connection")
	}
	switch {
	case a.AvailableTransports != nil:
		return Dial{}, errors.New("negotiate: this is ASP.NET Core SignalR, another protocol; write PROTOCOL=signalr")
	case a.Error != "":
		return Dial{}, refuse(http.StatusForbidden, "negotiate: "+serverText(a.Error))
	case a.RedirectURL != "":
		return s.redirected(a)
	case a.ProtocolVersion == "":
		return Dial{}, errors.New("negotiate: the answer has no ProtocolVersion, as ASP.NET SignalR's has; FROM must be the address of its hubs, such as /signalr, or of a persistent connection")
	case a.TryWebSockets != nil && !*a.TryWebSockets:
		return Dial{}, errors.New("negotiate: the server offers no WebSockets; install the feature WebSocket Protocol of IIS")
	case a.ConnectionToken == "" || len(a.ConnectionToken) > maxHubToken:
		return Dial{}, errors.New("negotiate: the answer has no ConnectionToken, or one that is too long")
	}
	at := s.at
	s.at = Dial{}
	s.classicPlace = classicPlace{token: a.ConnectionToken, silence: classicSeconds(a.KeepAliveTimeout, 0, maxClassicSilence), away: classicSeconds(a.DisconnectTimeout, classicAway, maxClassicAway)}
	if s.hops > 0 {
		s.elsewhere = at
	}
	return s.connect(at)
}

// classicSeconds is a time of the server's, up to a bound.
func classicSeconds(seconds *float64, unset, most time.Duration) time.Duration {
	switch {
	case seconds == nil:
		return unset
	case *seconds <= 0:
		return 0
	case *seconds >= most.Seconds():
		return most
	}
	return max(time.Second, time.Duration(*seconds*float64(time.Second)))
}

// redirected negotiates at the address in a.
func (s *signalRClassic) redirected(a classicAnswer) (Dial, error) {
	if s.hops++; s.hops > maxHubHops {
		return Dial{}, fmt.Errorf("negotiate: redirected more than %d times", maxHubHops)
	}
	at, _, err := redirectedHub(s.at, a.RedirectURL, a.AccessToken)
	if err != nil {
		return Dial{}, err
	}
	s.at = at
	return s.negotiate()
}
