package dialect

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sidestream/translate"
)

// failed is what it means that a message was not successful: a refusal, with the status of its code or other, unless the server's advice is to try
// again.
func (s *bayeux) failed(what string, m bayeuxMessage, other int) error {
	code, _, _ := strings.Cut(m.Error, ":")
	text := what + " was refused: " + bayeuxError(s.without(m.Error))
	status, err := strconv.Atoi(code)
	if err != nil || status < 400 || status > 499 {
		status = other
	}
	retry := err == nil && status == http.StatusRequestTimeout || strings.HasPrefix(code, "5")
	if m.Advice != nil {
		switch m.Advice.Reconnect {
		case "none":
			return refuse(status, text)
		case "retry", "handshake":
			retry = retry || code == "" // a code of the server's own counts more
		}
	}
	if retry {
		s.client = ""
		return &translate.Later{After: max(s.interval, time.Second), Err: errors.New(text)}
	}
	return refuse(status, text)
}

// bayeuxError is "code:arguments:text" for people.
func bayeuxError(text string) string {
	parts := strings.SplitN(text, ":", 3)
	if text == "" {
		return "without a reason"
	}
	if len(parts) < 3 {
		return serverText(text)
	}
	if parts[1] != "" {
		parts[2] += " (" + parts[1] + ")"
	}
	return serverText(parts[0] + " " + parts[2])
}

// without is text without what CONNECT holds in confidence.
func (s *bayeux) without(text string) string {
	connect, err := s.Connect()
	if err != nil {
		return ""
	}
	fields, err := bayeuxObject(connect)
	if err != nil {
		return ""
	}
	for _, value := range fields {
		for _, secret := range jsonTexts(value) {
			if len(secret) > 3 {
				text = strings.ReplaceAll(text, secret, "…")
			}
		}
	}
	return text
}
