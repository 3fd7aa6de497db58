// This file reads an MQTT broker's refusals: return codes of MQTT 3.1.1 (3.2.2.3, 3.9.3), reason codes of 5.0 (2.4).

package dialect

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"sidestream/translate"
)

func (s *mqtt) disconnected(r *mqttReader) error {
	var code byte
	reason := ""
	if len(r.b) > 0 {
		code = r.byte()
	}
	if len(r.b) > 0 {
		_, reason = r.properties()
	}
	if code == 0x8e {
		return refuse(http.StatusConflict, "another client has taken over the session; give each sidecar a clientId of its own, or none")
	}
	return s.refusal("the connection", code, reason)
}

// refusal is what a code of the broker means (3.1.1: 3.2.2.3; 5.0: 2.4).
func (s *mqtt) refusal(what string, code byte, reason string) error {
	text := fmt.Sprintf("the broker refused %s with code %d (0x%02x)", what, code, code)
	if reason != "" {
		text += ": " + s.hidden(reason)
	}
	version := text + "; it does not speak MQTT 5, leave version out of CONNECT"
	if s.version == 4 {
		version = text + `; it does not speak MQTT 3.1.1, write "version":5 in CONNECT`
	}
	if what == "CONNECT" && code < 0x80 { // also from brokers that do not know MQTT 5 and were asked for it
		return oldRefusal(code, version, text)
	}
	subscribing := strings.HasPrefix(what, "line")
	switch code {
	case 0x84:
		return refuse(http.StatusBadRequest, version)
	case 0x85:
		return refuse(http.StatusBadRequest, text+"; it does not take the clientId")
	case 0x86, 0x8c:
		return refuse(http.StatusUnauthorized, text)
	case 0x87:
		if subscribing {
			return refuse(http.StatusForbidden, text)
		}
		return refuse(http.StatusUnauthorized, text)
	case 0x8a:
		return refuse(http.StatusForbidden, text)
	case 0x8f, 0x90, 0x9e, 0xa1, 0xa2:
		return refuse(http.StatusBadRequest, text)
	case 0x9c, 0x9d:
		return fmt.Errorf("%s; the broker wants its clients elsewhere, change FROM", text)
	case 0x80:
		if subscribing {
			return refuse(http.StatusForbidden, text)
		}
	case 0x88, 0x89, 0x97, 0x9f, 0x96:
		return &translate.Later{After: mqttUnwell, Err: errors.New(text)}
	}
	return errors.New(text)
}

// oldRefusal is what a return code of MQTT 3.1.1 means; version is the text for a version that the broker does not speak.
func oldRefusal(code byte, version, text string) error {
	switch code {
	case 1:
		return refuse(http.StatusBadRequest, version)
	case 2:
		return refuse(http.StatusBadRequest, text+"; it does not take the clientId")
	case 4, 5:
		return refuse(http.StatusUnauthorized, text)
	}
	return &translate.Later{After: mqttUnwell, Err: errors.New(text)}
}

// hidden is a text of the broker, fit for logs, without the values of CONNECT.
func (s *mqtt) hidden(text string) string {
	secrets := []string{s.settings.ClientID}
	for _, secret := range []*string{s.settings.Username, s.settings.Password} {
		if secret != nil {
			secrets = append(secrets, *secret)
		}
	}
	return serverText(without(text, secrets))
}
