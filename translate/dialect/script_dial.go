// This file is where a raw route connects to when a message or a request before the dial decides that (TICKET, DIAL). The rules:
//
//   - TICKET's answer, or null without one, is `.` of DIAL, whose string is dialled instead of FROM. Nothing or null: FROM.
//     false: refused, for answers of status 200 that mean no.
//   - An address without TICKET that did not make a connection is not tried twice in a row: FROM is next.
//   - A ~ line that is true while DIAL yields another address than the present one has the connection move there, see [Received].
//   - The address comes from upstream, so it is hostile: ws or wss, and never ws where FROM is wss. Any host but FROM's own
//     gets none of the credentials that HEADERS and FORWARD may hold.

package dialect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"sidestream/translate"
)

// maxAddress bounds the address that DIAL yields, in bytes.
const maxAddress = 4 << 10

func (s *scripted) Dial(last *HTTPResponse) (Dial, error) {
	if s.script.Ticket != nil && last == nil {
		request, err := s.script.Ticket()
		return Dial{Request: request}, err
	}
	if s.script.Dial == nil {
		return s.Session.Dial(last)
	}
	dial, err := s.Session.Dial(nil)
	if err != nil {
		return dial, err
	}
	address, err := s.address(last)
	switch {
	case err != nil:
		return Dial{}, err
	case address == "":
		s.at = ""
		return dial, nil
	case s.script.Ticket == nil && s.failing == address:
		s.at, s.failing = "", ""
		return dial, nil
	}
	s.at, s.failing = address, address
	return elsewhere(dial, address)
}

// moves reports whether the next dial would be to another address than the present connection, without anything being asked before.
func (s *scripted) moves() bool {
	if s.script.Dial == nil || s.script.Ticket != nil || !s.complete() {
		return false
	}
	address, err := s.address(nil)
	if err != nil || address == "" || address == s.at {
		return false
	}
	s.failing = address // for this session, unless the one that is to take its place gets there
	return true
}

// address is what DIAL yields; "" means FROM.
func (s *scripted) address(last *HTTPResponse) (string, error) {
	m := s.nothing()
	if last != nil {
		m.Data, m.Header, m.Status = last.Body, last.Header, last.Status
		if _, err := translate.ParseJSON(last.Body); err != nil {
			return "", fmt.Errorf("the answer to TICKET %w", err)
		}
	}
	var v any
	err := s.bounded(func(ctx context.Context) (err error) {
		v, _, err = s.script.Dial.Output(ctx, m)
		return err
	})
	switch address := v.(type) {
	case string:
		return address, err
	case nil:
		return "", err
	case bool:
		if !address {
			return "", translate.Ruled{Refused: &translate.Refused{Status: http.StatusUnauthorized, Reason: "DIAL yields false"}}
		}
	}
	return "", &translate.ProgramError{Setting: s.script.Dial.Setting(), Err: errors.New("yields neither an address nor false nor null")}
}

// elsewhere is own with another address, which is checked, and without credentials for another host.
func elsewhere(own Dial, address string) (Dial, error) {
	from, err := url.Parse(own.URL)
	if err != nil {
		return Dial{}, errors.New("FROM is not an address")
	}
	if len(address) > maxAddress {
		return Dial{}, fmt.Errorf("DIAL yields an address of more than %d bytes", maxAddress)
	}
	to, err := url.Parse(address)
	switch {
	case err != nil || to.Hostname() == "" || to.Opaque != "":
		return Dial{}, errors.New("DIAL does not yield an address; it must begin with ws:// or wss://")
	case to.Scheme == "ws" && from.Scheme == "wss":
		return Dial{}, errors.New("DIAL yields a ws:// address, but FROM is wss://, which is not given up for less")
	case to.Scheme != "ws" && to.Scheme != "wss":
		return Dial{}, errors.New("DIAL yields an address that does not begin with ws:// or wss://")
	case to.User != nil || to.Fragment != "":
		return Dial{}, errors.New("DIAL yields an address with a user or a fragment, which a WebSocket's must not have")
	}
	own.URL = to.String()
	if authority(from) != authority(to) {
		kept := http.Header{}
		for _, name := range []string{"Origin", "User-Agent"} {
			if values := own.Header.Values(name); len(values) > 0 {
				kept[name] = values
			}
		}
		own.Header = kept
	}
	return own, nil
}
