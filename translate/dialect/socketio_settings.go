// This file reads FROM, CONNECT and SUBSCRIBE for the dialects socket.io and socket.io-v2.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// checkSocketIO looks at the settings of v4.
func checkSocketIO(connect string, lines []string) error {
	var problems []error
	if connect != "" {
		if _, err := sioAuth(connect, "", ""); err != nil {
			problems = append(problems, badConnect(`is not a JSON object; write the auth object of the namespaces, such as {"token":"..."}`))
		}
	}
	for i, line := range lines {
		if strings.Contains(line, "?") {
			problems = append(problems, badLine(i+1, "has a query, which namespaces of Socket.IO 3 and 4 do not have; put what it holds into CONNECT, or write PROTOCOL=socket.io-v2 for servers 1 and 2"))
		}
	}
	return errors.Join(append(problems, checkNamespaces(lines))...)
}

// checkSocketIOv2 looks at those of v2.
func checkSocketIOv2(_ string, lines []string) error { return checkNamespaces(lines) }

func checkNamespaces(lines []string) error {
	var problems []error
	for i, line := range lines {
		if strings.ContainsAny(line, ", \t") {
			problems = append(problems, badLine(i+1, "has a comma or a blank; write one namespace a line, such as /admin, and what to send in HELLO"))
		}
	}
	return errors.Join(problems...)
}

func (s *socketio) address(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("the address is not valid")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/socket.io/"
	}
	version, other := "4", "socket.io-v2"
	if s.v2 {
		version, other = "3", "socket.io"
	}
	for _, own := range []struct{ name, value, fix string }{
		{"EIO", version, "write PROTOCOL=" + other + ", or leave it out"},
		{"transport", "websocket", "leave it out"},
	} {
		switch got := u.Query()[own.name]; {
		case len(got) == 0:
			u.RawQuery = strings.TrimPrefix(strings.TrimSuffix(u.RawQuery, "&")+"&"+own.name+"="+own.value, "&")
		case len(got) > 1 || got[0] != own.value:
			return "", refuse(http.StatusBadRequest, fmt.Sprintf("FROM has another %s than %s; %s", own.name, own.value, own.fix))
		}
	}
	return u.String(), nil
}

// sioAuth is the payload of Socket.IO's CONNECT: the auth object, and what to resume where that is known.
func sioAuth(auth, pid, offset string) (string, error) {
	auth = strings.TrimSpace(auth)
	if auth == "" && (pid == "" || offset == "") {
		return "", nil
	}
	if auth == "" {
		auth = "{}"
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(auth), &object); err != nil || object == nil || !utf8.ValidString(auth) {
		return "", errors.New("no JSON object")
	}
	if pid == "" || offset == "" {
		return auth, nil
	}
	resume := `{"pid":` + string(jsonString(pid)) + `,"offset":` + string(jsonString(offset))
	if len(object) > 0 {
		resume += ","
	}
	return resume + auth[1:], nil
}

// sioPrefix is how a packet names its namespace.
func sioPrefix(name string) string {
	if name == "/" {
		return ""
	}
	return name + ","
}
