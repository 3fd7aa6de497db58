package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"sidestream/proxy"
	"sidestream/proxy/access"
)

// revokeMost bounds what says which clients are to go, in bytes.
const revokeMost = 64 << 10

// revocation is the body of POST /api/revoke.
type revocation struct {
	Route  string    `json:"route"`
	Auth   condition `json:"auth"`
	Cookie condition `json:"cookie"`
	Header condition `json:"header"`
}

// condition is values by their names.
type condition map[string]string

// UnmarshalJSON takes numbers and booleans as they are written, as claims may be.
func (c *condition) UnmarshalJSON(text []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*c = condition{}
	for name, value := range raw {
		var s string
		switch first := value[0]; {
		case first == '{', first == '[', string(value) == "null":
			return errors.New("a value is no text")
		case first != '"':
			s = string(value)
		default:
			if err := json.Unmarshal(value, &s); err != nil {
				return err
			}
		}
		if name == "" || s == "" {
			return errors.New("a name or value is empty")
		}
		(*c)[name] = s
	}
	return nil
}

// revoke cuts clients: who is logged out gets nothing more, now. What it answers with holds nothing of what it was asked.
func (a Port) revoke(w http.ResponseWriter, r *http.Request) {
	const want = `the body is to be {"route":"...","auth":{"sub":"..."}}, or cookie or header instead of auth; without a route all that have AUTH`
	w.Header().Set("Cache-Control", "no-store")
	var what revocation
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, revokeMost))
	d.DisallowUnknownFields()
	if err := d.Decode(&what); err != nil {
		http.Error(w, want, http.StatusBadRequest)
		return
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		http.Error(w, want, http.StatusBadRequest)
		return
	}
	cut, err := a.Proxy.RevokeEverywhere(r.Context(), access.Revocation{Route: what.Route, Auth: what.Auth, Cookie: what.Cookie, Header: what.Header})
	switch {
	case errors.Is(err, proxy.ErrReplicas):
		http.Error(w, proxy.ErrReplicas.Error(), http.StatusBadGateway)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]int{"cut": cut}) // a client that has disconnected is no error
}
