package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// centLine is a line of SUBSCRIBE.
type centLine struct {
	channel  string
	fields   map[string]json.RawMessage
	filtered bool // publications are left out by their tags
}

// What may be said of a connection and a subscription; the rest is set here.
var (
	centConnectFields = []string{"token", "data", "name", "version", "headers"}
	centLineFields    = []string{"token", "data", "tf", "join_leave", "positioned", "recoverable"}
)

func checkCentrifuge(connect string, lines []string) error {
	var problems []error
	if _, err := centConnect(connect); err != nil {
		problems = append(problems, badConnect("%v", err))
	}
	for i, line := range lines {
		if _, err := centSubscription(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

// centConnect reads CONNECT: fields of the command connect.
func centConnect(connect string) (map[string]any, error) {
	const form = `write fields of connect as JSON, such as {"token":"..."} or {"data":{..}}`
	all := map[string]any{}
	if strings.TrimSpace(connect) == "" {
		return all, nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(connect), &fields) != nil || fields == nil {
		return nil, errors.New("is not what it takes; " + form)
	}
	for name, value := range fields {
		if !slices.Contains(centConnectFields, name) {
			return nil, fmt.Errorf("holds %s; it takes %s alone", name, strings.Join(centConnectFields, ", "))
		}
		all[name] = value
	}
	return all, nil
}

// centSubscription reads a line of SUBSCRIBE: a channel, and fields of the command subscribe.
func centSubscription(line string) (l centLine, err error) {
	const form = `write a channel, and fields of subscribe after it if the server wants some: news:{path.desk} {"token":"..."}`
	var object json.RawMessage
	if l.channel, object, err = parseTopicLine(line, form); err != nil {
		return l, err
	}
	if len(l.channel) > maxCentName {
		return l, fmt.Errorf("has a channel of more than %d bytes", maxCentName)
	}
	if json.Unmarshal(object, &l.fields) != nil {
		return l, errors.New("has no JSON object after the channel; " + form)
	}
	for name := range l.fields {
		if !slices.Contains(centLineFields, name) {
			return l, fmt.Errorf("sets %s; it takes %s alone", printable(name), strings.Join(centLineFields, ", "))
		}
	}
	l.filtered = l.fields["tf"] != nil && string(l.fields["tf"]) != "null"
	return l, nil
}
