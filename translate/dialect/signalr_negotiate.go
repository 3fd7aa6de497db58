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
	if s.stands {
		return s.redial()
	}
	s.hubPlace = hubPlace{}
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
	u := under(hub, "negotiate")
	u.Scheme = schemeOf("http", "https", secured(hub))
	if !u.Query().Has("negotiateVersion") {
		u.RawQuery = withQuery(u.RawQuery, "negotiateVersion=1")
	}
	if !s.plain && !s.Carried && !u.Query().Has(hubStateful) {
		u.RawQuery = withQuery(u.RawQuery, hubStateful+"=true")
	}
	h := s.at.Header.Clone()
	h.Set("X-Requested-With", "XMLHttpRequest") // or cookie authentication answers with a redirect to its login page
	return Dial{Request: &HTTPRequest{Method: http.MethodPost, URL: u.String(), Header: h}}
}

// under is the address of name at a hub.
func under(hub *url.URL, name string) url.URL {
	u := *hub
	slash := "/"
	if strings.HasSuffix(u.Path, "/") {
		slash = ""
	}
	if u.RawPath != "" {
		u.RawPath += slash + name
	}
	u.Path += slash + name
	return u
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
	format := "Text"
	if s.packed {
		format = "Binary"
	}
	var a hubAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return Dial{}, errors.New("negotiate: the answer is not what a SignalR hub says; FROM must be the address of the hub itself")
	}
	switch {
	case a.ProtocolVersion != nil:
		return Dial{}, errors.New("negotiate: this is ASP.NET SignalR, another protocol; write PROTOCOL=" + classicName)
	case a.Error != "":
		return Dial{}, refuse(http.StatusForbidden, "negotiate: "+serverText(a.Error))
	case a.URL != "":
		return s.redirected(a)
	case a.UseStatefulReconnect && !s.asksStateful():
		return Dial{}, errors.New("negotiate: the hub wants stateful reconnect, which was not asked for")
	case !a.overWebSocket(format):
		return Dial{}, errors.New("negotiate: the hub offers no WebSockets transport with " + format + "; enable WebSockets in the server and in what stands before it")
	}
	return s.negotiatedDial(a)
}

// overWebSocket reports whether the hub has WebSockets with messages in this format.
func (a *hubAnswer) overWebSocket(format string) bool {
	for _, t := range a.AvailableTransports {
		if t.Transport != "WebSockets" {
			continue
		}
		for _, f := range t.TransferFormats {
			if f == format {
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
	at := s.at
	s.at = Dial{}
	if a.UseStatefulReconnect {
		s.hubPlace = hubPlace{id: id, coming: 1}
		if s.hops > 0 {
			s.elsewhere = at
		}
	}
	return withHubID(at, id)
}

// withHubID is the dial of the connection called id at the hub.
func withHubID(at Dial, id string) (Dial, error) {
	u, err := url.Parse(at.URL)
	if err != nil {
		return Dial{}, errors.New("negotiate: the hub's address is not valid")
	}
	u.Scheme = schemeOf("ws", "wss", secured(u))
	u.RawQuery = withQuery(u.RawQuery, "id="+url.QueryEscape(id))
	at.URL = u.String()
	return at, nil
}

// asksStateful reports whether the last negotiation asked for stateful reconnect, or FROM did.
func (s *signalr) asksStateful() bool {
	u, err := url.Parse(s.at.URL)
	if err != nil || s.Carried {
		return false
	}
	if u.Query().Has(hubStateful) {
		return u.Query().Get(hubStateful) == "true"
	}
	return !s.plain
}

// redirected negotiates at the address in a.
func (s *signalr) redirected(a hubAnswer) (Dial, error) {
	if s.hops++; s.hops > maxHubHops {
		return Dial{}, fmt.Errorf("negotiate: redirected more than %d times", maxHubHops)
	}
	at, to, err := redirectedHub(s.at, a.URL, a.AccessToken)
	if err != nil {
		return Dial{}, err
	}
	s.at = at
	return s.negotiate(to), nil
}

// redirectedHub is where a negotiation at a hub goes on that was redirected to an address, with a token unless that is "".
func redirectedHub(was Dial, address, token string) (at Dial, to *url.URL, err error) {
	to, err = url.Parse(address)
	if err != nil || len(address) > maxHubAddress || to.Host == "" || to.Scheme != "http" && to.Scheme != "https" {
		return Dial{}, nil, errors.New("negotiate: redirected to something that is not an HTTP address")
	}
	from, err := url.Parse(was.URL)
	if err != nil {
		return Dial{}, nil, errors.New("negotiate: the hub's address is not valid")
	}
	secure := secured(from)
	if secure && to.Scheme == "http" {
		return Dial{}, nil, errors.New("negotiate: redirected from https to http; let the server redirect to https")
	}
	if !validToken(token) {
		return Dial{}, nil, errors.New("negotiate: the token of the redirect (accessToken) is not a token, or too long")
	}
	h := http.Header{}
	if secure == secured(to) && authority(from) == authority(to) {
		h = was.Header.Clone()
	}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	to.Fragment = ""
	return Dial{URL: to.String(), Header: h, Subprotocols: was.Subprotocols}, to, nil
}

// validToken reports whether a token may stand in a header.
func validToken(token string) bool {
	return len(token) <= maxHubToken && strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}
