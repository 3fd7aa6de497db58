// This file reads CONNECT and SUBSCRIBE for the dialect nats.

package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// natsSettings is CONNECT, by the protocol's own names.
type natsSettings struct {
	User      string
	Pass      string
	AuthToken string `json:"auth_token"`
	JWT       string
	Seed      string // of an nkey, which signs for JWT, unless that is a bearer's, or by itself
	Name      string
	Inbox     string // what the subjects of answers begin with; "": _INBOX
}

func readNATS(connect string) (c natsSettings, err error) {
	if len(bytes.TrimSpace([]byte(connect))) == 0 {
		return c, nil
	}
	if readOnly(connect, &c) != nil {
		return c, badConnect(`is not a JSON object of what NATS knows; write {"user":"..","pass":".."}, {"auth_token":".."} or {"jwt":"..","seed":"SU.."}, with "name" and "inbox" where they are needed`)
	}
	switch {
	case c.Inbox != "" && (!natsSubject(c.Inbox) || natsWild.MatchString(c.Inbox)):
		return c, badConnect("inbox is not a subject")
	}
	if c.Seed != "" {
		if _, _, err := natsKey(c.Seed); err != nil {
			return c, badConnect("seed %v", err)
		}
	}
	return c, nil
}

var (
	natsWild = regexp.MustCompile(`[*>]`)
	natsName = regexp.MustCompile(`^[^\s.*>/\\]{1,255}$`)
)

// login is CONNECT's JSON. The server's nonce is signed where there is a seed.
func (c natsSettings) login(nonce string) ([]byte, error) {
	said := map[string]any{"verbose": false, "pedantic": false, "tls_required": false, "lang": "sidestream", "version": "1", "protocol": 1, "echo": true, "headers": true, "no_responders": true}
	for name, value := range map[string]string{"user": c.User, "pass": c.Pass, "auth_token": c.AuthToken, "jwt": c.JWT, "name": c.Name} {
		if value != "" {
			said[name] = value
		}
	}
	if c.Seed != "" {
		public, sign, err := natsKey(c.Seed)
		if err != nil {
			return nil, errors.New("CONNECT: seed " + err.Error()) // which readNATS has seen
		}
		said["sig"] = sign(nonce)
		if c.JWT == "" {
			said["nkey"] = public
		}
	}
	return jsonFrame(said).Data, nil
}

// secrets are what a server's text may not repeat.
func (c natsSettings) secrets() []string {
	return []string{c.User, c.Pass, c.AuthToken, c.JWT, c.Seed}
}

// natsLine is a line of SUBSCRIBE.
type natsLine struct {
	subject string
	stream  string // of JetStream; "": none
	domain  string // of its
	all     bool   // it begins with the first message
}

// key tells lines apart.
func (l natsLine) key() string { return l.domain + "/" + l.stream + "/" + l.subject }

// natsSubscription reads a line of SUBSCRIBE: a subject, and the stream of JetStream that keeps it.
func natsSubscription(line string) (l natsLine, err error) {
	const form = `write a subject, and the stream where JetStream keeps it: orders.> {"stream":"ORDERS"}, with "deliver":"all" to begin with its first message`
	var object json.RawMessage
	if l.subject, object, err = parseTopicLine(line, form); err != nil {
		return l, err
	}
	var said struct{ Stream, Domain, Deliver string }
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	switch {
	case !natsSubject(l.subject):
		return l, errors.New("has no subject, words between dots without blanks; " + form)
	case d.Decode(&said) != nil:
		return l, errors.New("says something else than stream, domain and deliver; " + form)
	case said.Stream == "" && (said.Domain != "" || said.Deliver != ""):
		return l, errors.New("names no stream; " + form)
	case said.Stream != "" && !natsName.MatchString(said.Stream) || said.Domain != "" && !natsName.MatchString(said.Domain):
		return l, errors.New("names no stream or domain that can be; " + form)
	case said.Deliver != "" && said.Deliver != "new" && said.Deliver != "all":
		return l, errors.New("has a deliver that is neither new nor all; " + form)
	}
	l.stream, l.domain, l.all = said.Stream, said.Domain, said.Deliver == "all"
	return l, nil
}

// checkNATS looks at the settings before anything is dialled.
func checkNATS(connect string, lines []string) error {
	var problems []error
	if _, err := readNATS(connect); err != nil {
		problems = append(problems, err)
	}
	if len(lines) > maxNATSLines {
		problems = append(problems, badLine(maxNATSLines+1, "no more than %d subjects", maxNATSLines))
	}
	for i, line := range lines {
		if _, err := natsSubscription(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", fmt.Errorf("%w", err)))
		}
	}
	return errors.Join(problems...)
}
