// This file finds out where and how to dial a hub: SignalR negotiates over HTTP first, and may be redirected.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Dial negotiates first.
func (s *signalr) Dial(last *HTTPResponse) (Dial, error) {
	if last != nil {
		return s.negotiated(last.Body)
	}
	own, err := s.Options.Dial()
	if err != nil {
		return Dial{}, err
	}
	u, err := url.Parse(own.URL)
	if err != nil {
		return Dial{}, errors.New("FROM is not an address")
	}
	if u.Query().Has("id") {
		return own, nil
	}
	if own.Header == nil {
		own.Header = http.Header{}
	}
	s.at, s.hops = own, 0
	return s.negotiate(u), nil
}

// negotiate is the request at the hub's address.
func (s *signalr) negotiate(hub *url.URL) Dial {
	u := *hub
	u.Scheme = schemeOf("http", "https", secured(hub))
	slash := "/"
	if strings.HasSuffix(u.Path, "/") {
		slash = ""
	}
	if u.RawPath != "" {
		u.RawPath += slash + "negotiate"
	}
	u.Path += slash + "negotiate"
	if !u.Query().Has("negotiateVersion") {
		u.RawQuery = withQuery(u.RawQuery, "negotiateVersion=1")
	}
	h := s.at.Header.Clone()
	h.Set("X-Requested-With", "XMLHttpRequest") // or cookie authentication answers with a redirect to its login page
	return Dial{Request: &HTTPRequest{Method: http.MethodPost, URL: u.String(), Header: h}}
}

func schemeOf(plain, tls string, secure bool) string {
	if secure {
		return tls
	}
	return plain
}

// hubAnswer is what negotiate answers.
type hubAnswer struct {
	URL                  string
	AccessToken          string
	ConnectionID         string
	ConnectionToken      string
	NegotiateVersion     int
	Error                string
	ProtocolVersion      json.RawMessage // of ASP.NET SignalR, the protocol before
	UseStatefulReconnect bool
	AvailableTransports  []struct {
		Transport       string
		TransferFormats []string
	}
}

func (s *signalr) negotiated(body []byte) (Dial, error) {
	if s.at.Header == nil {
		return Dial{}, errors.New("negotiate: an answer to no question")
	}
	var a hubAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return Dial{}, errors.New("negotiate: the answer is not what a SignalR hub says; FROM must be the address of the hub itself")
	}
	switch {
	case a.ProtocolVersion != nil:
		return Dial{}, errors.New("negotiate: this is ASP.NET SignalR, another protocol; signalr speaks that of ASP.NET Core SignalR only, so update the server or poll it")
	case a.Error != "":
		return Dial{}, refuse(http.StatusForbidden, "negotiate: "+serverText(a.Error))
	case a.URL != "":
		return s.redirected(a)
	case a.UseStatefulReconnect:
		return Dial{}, errors.New("negotiate: the hub wants stateful reconnect; take useStatefulReconnect out of FROM")
	case !a.overWebSocket():
		return Dial{}, errors.New("negotiate: the hub offers no WebSockets transport with Text; enable WebSockets in the server and in what stands before it")
	}
	return s.negotiatedDial(a)
}

func (a *hubAnswer) overWebSocket() bool {
	for _, t := range a.AvailableTransports {
		if t.Transport != "WebSockets" {
			continue
		}
		for _, f := range t.TransferFormats {
			if f == "Text" {
				return true
			}
		}
	}
	return false
}

// negotiatedDial is the dial that the negotiation ends with.
func (s *signalr) negotiatedDial(a hubAnswer) (Dial, error) {
	id := a.ConnectionToken
	if a.NegotiateVersion < 1 {
		id = a.ConnectionID
	}
	if id == "" || len(id) > maxHubToken {
		return Dial{}, errors.New("negotiate: the answer has no connectionToken, or one that is too long")
	}
	u, err := url.Parse(s.at.URL)
	if err != nil {
		return Dial{}, errors.New("negotiate: the hub's address is not valid")
	}
	u.Scheme = schemeOf("ws", "wss", secured(u))
	u.RawQuery = withQuery(u.RawQuery, "id="+url.QueryEscape(id))
	dial := s.at
	dial.URL = u.String()
	s.at = Dial{}
	return dial, nil
}

// redirected negotiates at the address in a.
func (s *signalr) redirected(a hubAnswer) (Dial, error) {
	if s.hops++; s.hops > maxHubHops {
		return Dial{}, fmt.Errorf("negotiate: redirected more than %d times", maxHubHops)
	}
	to, err := url.Parse(a.URL)
	if err != nil || len(a.URL) > maxHubAddress || to.Host == "" || to.Scheme != "http" && to.Scheme != "https" {
		return Dial{}, errors.New("negotiate: redirected to something that is not an HTTP address")
	}
	from, err := url.Parse(s.at.URL)
	if err != nil {
		return Dial{}, errors.New("negotiate: the hub's address is not valid")
	}
	secure := secured(from)
	if secure && to.Scheme == "http" {
		return Dial{}, errors.New("negotiate: redirected from https to http; let the server redirect to https")
	}
	if !validToken(a.AccessToken) {
		return Dial{}, errors.New("negotiate: the accessToken is not a token, or too long")
	}
	h := http.Header{}
	if secure == secured(to) && authority(from) == authority(to) {
		h = s.at.Header.Clone()
	}
	if a.AccessToken != "" {
		h.Set("Authorization", "Bearer "+a.AccessToken)
	}
	to.Fragment = ""
	s.at = Dial{URL: to.String(), Header: h, Subprotocols: s.at.Subprotocols}
	return s.negotiate(to), nil
}

// validToken reports whether a token may stand in a header.
func validToken(token string) bool {
	return len(token) <= maxHubToken && strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}
