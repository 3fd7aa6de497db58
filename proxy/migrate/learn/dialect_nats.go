package learn

import (
	"encoding/json"
	"strconv"
	"strings"
)

// natsOwn begins subjects that a client makes up for answers, and those of JetStream's own.
func natsOwn(subject string) bool {
	return strings.HasPrefix(subject, "_INBOX") || strings.HasPrefix(subject, "$JS.")
}

func readNATS(c *Conversation) (s speech) {
	all, begins := joined(c)
	for rest := all; rest != ""; {
		soon := len(all)-len(rest) < begins
		line, after, ok := strings.Cut(rest, "\r\n")
		if !ok {
			return s
		}
		rest = after
		verb, text, _ := strings.Cut(line, " ")
		fields := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' }) // others may be part of a subject
		switch verb = strings.ToUpper(verb); {
		case verb == "CONNECT":
			s.natsConnect(text)
		case verb == "SUB" && len(fields) > 1 && !natsOwn(fields[0]):
			s.add(subscribes, fields[0], "")
			if len(fields) > 2 {
				s.notes = append(s.notes, "a subscription is one of a queue group, of which each client gets a part; the route gets all")
			}
		case (verb == "PUB" || verb == "HPUB") && len(fields) > 1:
			size, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil || size < 0 || size > len(rest)-2 {
				return s
			}
			payload := rest[:size]
			rest = rest[size+2:]
			if verb == "PUB" && (soon || natsOwn(fields[0])) {
				s.natsPublish(fields[0], payload)
			}
		}
	}
	return s
}

// natsConnect takes who a client is.
func (s *speech) natsConnect(text string) {
	var all map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &all) != nil {
		return
	}
	if doc := only(all, []string{"user", "pass", "auth_token", "name"}); doc != "" {
		s.add(connects, "", doc)
	}
	if len(all["sig"]) > 0 {
		s.notes = append(s.notes, `the client signs with an nkey: write its seed into CONNECT_FILE, {"seed":"SU.."}, and its jwt where it has one`)
	}
}

// natsPublish takes a message; one to JetStream may ask for a consumer.
func (s *speech) natsPublish(subject, payload string) {
	if !natsOwn(subject) {
		body := payload
		if !json.Valid([]byte(payload)) {
			body = quote(payload)
		}
		s.add(says, "", encode(map[string]any{"subject": subject, "payload": json.RawMessage(body)}))
		return
	}
	var create struct {
		StreamName string `json:"stream_name"`
		Config     struct {
			FilterSubject  string   `json:"filter_subject"`
			FilterSubjects []string `json:"filter_subjects"`
			DeliverPolicy  string   `json:"deliver_policy"`
		}
	}
	if !strings.Contains(subject, ".API.CONSUMER.CREATE.") || json.Unmarshal([]byte(payload), &create) != nil || create.StreamName == "" {
		return
	}
	line := map[string]any{"stream": create.StreamName}
	if create.Config.DeliverPolicy == "all" {
		line["deliver"] = "all"
	}
	filters := create.Config.FilterSubjects
	if len(filters) == 0 {
		filters = []string{create.Config.FilterSubject}
	}
	for _, filter := range filters {
		if filter == "" {
			filter = ">"
		}
		s.add(subscribes, filter, encode(line))
	}
}
