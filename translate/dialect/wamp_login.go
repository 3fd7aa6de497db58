// This file is the login of WAMP: CONNECT, tickets and WAMP-CRA.

package dialect

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// wampLogin is CONNECT.
type wampLogin struct {
	Realm  string `json:"realm"`
	AuthID string `json:"authid"`
	Ticket string `json:"ticket"`
	Secret string `json:"secret"` // of WAMP-CRA
}

const (
	wampConnectForm = `write {"realm":"..."}, and for a login "authid" and "ticket" (or "secret" for WAMP-CRA) in it`
	wampLineForm    = "write topic or topic {options as JSON}"
)

func parseWampLogin(connect string) (l wampLogin, err error) {
	if strings.TrimSpace(connect) == "" || readOnly(connect, &l) != nil {
		return l, errors.New("is not what it takes; " + wampConnectForm)
	}
	switch {
	case l.Realm == "":
		return l, errors.New("has no realm; " + wampConnectForm)
	case l.AuthID == "" && l.Ticket+l.Secret != "":
		return l, errors.New(`has no authid beside the ticket or secret; write "authid" too`)
	}
	return l, nil
}

// methods are the ways to log in, the best first.
func (l *wampLogin) methods() (methods []string) {
	if l.Secret != "" {
		methods = append(methods, "wampcra")
	}
	if l.Ticket != "" {
		methods = append(methods, "ticket")
	}
	if methods == nil {
		methods = []string{"anonymous"}
	}
	return methods
}

// answer is what a challenge asks for: the ticket, or a signature.
func (s *wamp) answer(m wampMessage) (string, error) {
	method := m.text(1)
	if s.challenged {
		return "", errors.New("a second challenge")
	}
	if !slices.Contains(s.login.methods(), method) || method == "anonymous" {
		return "", refuse(http.StatusUnauthorized, fmt.Sprintf("the router wants %q, for which CONNECT has nothing", serverText(method)))
	}
	if method == "ticket" {
		return s.login.Ticket, nil
	}
	if len(m) < 3 {
		return "", errors.New("a challenge without its details")
	}
	return s.login.sign(m[2])
}

// sign answers WAMP-CRA. The key is the secret, or derived from it when there is a salt.
func (l *wampLogin) sign(extra json.RawMessage) (string, error) {
	c := struct {
		Challenge, Salt    string
		KeyLen, Iterations int
	}{KeyLen: 32, Iterations: 1000} // wampy's defaults when the router leaves them out
	if json.Unmarshal(extra, &c) != nil || c.Challenge == "" {
		return "", errors.New("a challenge of WAMP-CRA that has none")
	}
	key := []byte(l.Secret)
	if c.Salt != "" {
		if c.Iterations < 1 || c.Iterations > maxWampIterations || c.KeyLen < 1 || c.KeyLen > maxWampKey {
			return "", errors.New("a challenge of WAMP-CRA with iterations or a keylen out of bounds")
		}
		derived, err := pbkdf2.Key(sha256.New, l.Secret, []byte(c.Salt), c.Iterations, c.KeyLen)
		if err != nil {
			return "", errors.New("WAMP-CRA: the key cannot be made")
		}
		key = []byte(base64.StdEncoding.EncodeToString(derived))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(c.Challenge))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}
