package dialect

import (
	"encoding/json"
	"strings"

	"sidestream/translate"
)

// bayeuxOverheard knows subscriptions by their channels. Events have no ids: those of channels that SUBSCRIBE does not ask for are left out.
type bayeuxOverheard struct {
	asked
	channels []string
}

func newBayeuxOverheard(lines []string) *bayeuxOverheard {
	b := &bayeuxOverheard{}
	b.asked = newAsked(lines, func(line string) (string, error) {
		channel, fields, err := bayeuxLine(line)
		b.channels = append(b.channels, channel)
		return sameSubscription(channel, fields), err
	})
	return b
}

// sameSubscription is equal for subscriptions that ask for the same.
func sameSubscription(channel string, fields map[string]json.RawMessage) string {
	values := map[string]any{}
	for name, value := range fields {
		if name != "channel" && name != "clientId" && name != "id" && name != "subscription" {
			values[name] = anyJSON(value)
		}
	}
	return channel + " " + sortedJSON(values)
}

func (b *bayeuxOverheard) Client(f Frame) {
	var all []map[string]json.RawMessage
	if json.Unmarshal(f.Data, &all) != nil {
		return
	}
	for _, m := range all {
		var channel string
		_ = json.Unmarshal(m["channel"], &channel)
		for _, subscription := range bayeuxChannels(m["subscription"]) {
			switch channel {
			case bayeuxMeta + "subscribe":
				b.ask(subscription, b.lines[sameSubscription(subscription, m)], false)
			case bayeuxMeta + "unsubscribe":
				b.forget(subscription)
			}
		}
		if channel == bayeuxMeta+"disconnect" {
			b.open = false
		}
	}
}

// bayeuxChannels are what a subscription is to: one channel, or a list.
func bayeuxChannels(subscription json.RawMessage) (channels []string) {
	var one string
	if json.Unmarshal(subscription, &one) == nil {
		return []string{one}
	}
	_ = json.Unmarshal(subscription, &channels) // anything else is none
	return channels
}

func (b *bayeuxOverheard) Server(f Frame) []Frame {
	var all []bayeuxMessage
	if json.Unmarshal(f.Data, &all) != nil {
		return nil
	}
	for _, m := range all {
		good := m.Successful != nil && *m.Successful
		switch {
		case m.Channel == bayeuxMeta+"handshake":
			b.open = good
		case m.Channel == bayeuxMeta+"connect" && good:
			b.open = true // with an id of before
		case m.Channel == bayeuxMeta+"subscribe":
			for _, channel := range bayeuxChannels(m.Subscription) {
				if good {
					b.confirm(channel, "")
				} else {
					b.forget(channel)
				}
			}
		}
	}
	return []Frame{f}
}

// Wants reports whether one of the channels of SUBSCRIBE is the message's, or a wildcard for it.
func (b *bayeuxOverheard) Wants(m translate.Message) bool {
	for _, channel := range b.channels {
		if channel == m.Topic {
			return true
		}
		if prefix, deep := strings.CutSuffix(channel, "/**"); deep && strings.HasPrefix(m.Topic, prefix+"/") {
			return true
		}
		if prefix, flat := strings.CutSuffix(channel, "/*"); flat {
			if rest, under := strings.CutPrefix(m.Topic, prefix+"/"); under && !strings.Contains(rest, "/") {
				return true
			}
		}
	}
	return false
}
