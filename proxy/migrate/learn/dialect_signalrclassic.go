package learn

import (
	"encoding/json"
	"slices"
	"strings"
)

// classicQuery are what a client of ASP.NET SignalR puts into an address by itself.
func classicQuery(name string) bool {
	return slices.Contains([]string{"transport", "clientProtocol", "connectionToken", "connectionData", "messageId", "groupsToken", "tid"}, name)
}

// isClassic reports whether a conversation's address is that of a connection of ASP.NET SignalR.
func isClassic(c *Conversation) bool {
	transport, _ := value(c.Query, "transport")
	_, token := value(c.Query, "connectionToken")
	return transport == "webSockets" && token && withoutConnect(c.Path) != c.Path
}

func withoutConnect(path string) string {
	for _, name := range []string{"/connect", "/reconnect"} {
		if short, ok := strings.CutSuffix(path, name); ok && short != "" {
			return short
		}
	}
	return path
}

// readSignalRClassic reads the hubs of the address, and what is invoked.
func readSignalRClassic(c *Conversation) (s speech) {
	type call struct {
		H, M string
		A    json.RawMessage
	}
	var invoked []call
	for _, f := range c.Frames {
		var m call
		if f.FromClient && early(c, f) && json.Unmarshal(f.Data, &m) == nil && m.H != "" && m.M != "" {
			invoked = append(invoked, m)
		}
	}
	var hubs []struct{ Name string }
	data, _ := value(c.Query, "connectionData")
	_ = json.Unmarshal([]byte(data), &hubs) // a persistent connection has none
	for _, hub := range hubs {
		if !slices.ContainsFunc(invoked, func(m call) bool { return strings.EqualFold(m.H, hub.Name) }) {
			s.add(subscribes, hub.Name, "")
		}
	}
	for _, m := range invoked {
		args := string(m.A)
		if args == "[]" || args == "null" {
			args = ""
		}
		s.add(subscribes, m.H+"."+m.M, args)
	}
	return s
}
