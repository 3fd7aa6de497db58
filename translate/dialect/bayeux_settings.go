package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

func checkBayeux(connect string, lines []string) error {
	var problems []error
	if _, err := bayeuxObject(connect); err != nil {
		problems = append(problems, badConnect("%v", err))
	}
	for i, line := range lines {
		if _, _, err := bayeuxLine(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

// bayeuxObject reads CONNECT: fields of the handshake.
func bayeuxObject(connect string) (fields map[string]json.RawMessage, err error) {
	if strings.TrimSpace(connect) == "" {
		return map[string]json.RawMessage{}, nil
	}
	if json.Unmarshal([]byte(connect), &fields) != nil || fields == nil {
		return nil, errors.New(`is not what it takes; write fields of the handshake as JSON, such as {"ext":{"token":"..."}}`)
	}
	for _, own := range []string{"channel", "version", "supportedConnectionTypes", "id", "clientId"} {
		if fields[own] != nil {
			return nil, fmt.Errorf("holds %s, which is set here; leave it out", own)
		}
	}
	return fields, nil
}

// bayeuxLine reads a line of SUBSCRIBE: a channel, and fields of the subscription.
func bayeuxLine(line string) (channel string, fields map[string]json.RawMessage, err error) {
	const form = `write a channel, and fields of the subscription after it if the server wants some: /orders/* {"ext":{"token":"..."}}`
	channel, object, err := parseTopicLine(line, form)
	if err != nil {
		return "", nil, err
	}
	if !strings.HasPrefix(channel, "/") || strings.HasPrefix(channel, bayeuxMeta) {
		return "", nil, errors.New("has no channel, which begins with a / and not with /meta/; " + form)
	}
	if json.Unmarshal(object, &fields) != nil || fields["channel"] != nil || fields["clientId"] != nil || fields["subscription"] != nil || fields["id"] != nil {
		return "", nil, errors.New("sets a field that is set here; " + form)
	}
	return channel, fields, nil
}
