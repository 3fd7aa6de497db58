// This file reads CONNECT and SUBSCRIBE for the dialect mqtt.

package dialect

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// mqttSettings is CONNECT.
type mqttSettings struct {
	Username      *string
	Password      *string
	ClientID      string
	Version       json.RawMessage // 4 or "3.1.1", 5 or "5"
	CleanSession  *bool
	SessionExpiry *uint32 // seconds; MQTT 5
	KeepAlive     *uint16 // seconds
}

func readMQTT(connect string) (c mqttSettings, version byte, err error) {
	version = 4
	if strings.TrimSpace(connect) == "" {
		return c, version, nil
	}
	const form = `write {"username":"..","password":"..","clientId":"..","version":5,"keepAlive":30,"sessionExpiry":120,"cleanSession":false} or a part of it`
	if readOnly(connect, &c) != nil {
		return c, 0, badConnect("is not a JSON object of what MQTT knows; %s", form)
	}
	switch strings.Trim(string(c.Version), `"`) {
	case "", "4", "3.1.1", "null":
	case "5", "5.0":
		version = 5
	default:
		return c, 0, badConnect(`version is 4 (MQTT 3.1.1) or 5`)
	}
	switch {
	case c.SessionExpiry != nil && version != 5:
		return c, 0, badConnect(`sessionExpiry is for "version":5; with MQTT 3.1.1 write "cleanSession":false`)
	case c.CleanSession != nil && !*c.CleanSession && c.ClientID == "" && version == 4:
		return c, 0, badConnect(`"cleanSession":false needs a "clientId" of its own, by which the broker knows its session`)
	case c.Password != nil && c.Username == nil && version == 4:
		return c, 0, badConnect("a password needs a username, or \"version\":5")
	case c.Username != nil && len(*c.Username) > 1<<16-1, c.Password != nil && len(*c.Password) > 1<<16-1:
		return c, 0, badConnect("username and password have 65535 bytes at the most")
	case len(c.ClientID) > 1<<10:
		return c, 0, badConnect("clientId is over 1 KiB")
	}
	return c, version, nil
}

type mqttFilter struct {
	filter string
	qos    byte
}

func readFilter(line string) (f mqttFilter, err error) {
	filter, rest := cutWord(line)
	f.filter = filter
	switch rest {
	case "", "0":
	case "1", "2":
		f.qos = rest[0] - '0'
	default:
		return f, errors.New("what follows the topic filter is not a QoS; write 0, 1 or 2")
	}
	if group, of, shared := f.group(); shared && (group == "" || strings.ContainsAny(group, "#+") || of == "") {
		return f, errors.New("is not a shared subscription; write $share/group/topic")
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		switch {
		case level == "#" && i < len(levels)-1:
			return f, errors.New("# is the last level of a topic filter or none")
		case level != "#" && level != "+" && strings.ContainsAny(level, "#+"):
			return f, errors.New("# and + stand for whole levels of a topic filter")
		}
	}
	if len(filter) > 1<<16-1 || !utf8.ValidString(filter) || strings.IndexByte(filter, 0) >= 0 {
		return f, errors.New("is not a topic filter")
	}
	return f, nil
}

// group takes a shared subscription apart (5.0, section 4.8.2). EMQX has one without a group's name.
func (f mqttFilter) group() (group, filter string, shared bool) {
	if rest, queue := strings.CutPrefix(f.filter, "$queue/"); queue {
		return "$queue", rest, true
	}
	rest, shared := strings.CutPrefix(f.filter, "$share/")
	if !shared {
		return "", f.filter, false
	}
	group, filter, _ = strings.Cut(rest, "/")
	return group, filter, true
}

// matches reports whether topic is one that f is for (3.1.1, section 4.7; 5.0, section 4.8.2).
func (f mqttFilter) matches(topic string) bool {
	_, filter, _ := f.group()
	filter = strings.TrimPrefix(filter, "$exclusive/") // EMQX
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		level, more, deeper := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		name, rest, under := strings.Cut(topic, "/")
		if level != "+" && level != name {
			return false
		}
		switch {
		case !deeper:
			return !under
		case !under:
			return more == "#" // which is for the parent level too
		}
		filter, topic = more, rest
	}
}

func mqttClientID(connect string) string {
	c, _, err := readMQTT(connect)
	if err != nil {
		return "" // which Check has reported already
	}
	return c.ClientID
}

// checkMQTT looks at the settings before anything is dialled.
func checkMQTT(connect string, lines []string) error {
	var problems []error
	if _, _, err := readMQTT(connect); err != nil {
		problems = append(problems, err)
	}
	if len(lines) > maxMQTTFilters {
		problems = append(problems, badLine(maxMQTTFilters+1, "no more than %d topic filters", maxMQTTFilters))
	}
	for i, line := range lines {
		if _, err := readFilter(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}
