package dialect

import "testing"

// The first frames of servers, as the transcripts have them.
func TestGuess(t *testing.T) {
	for frame, want := range map[string]string{
		`0{"sid":"x","upgrades":[],"pingInterval":25000}`: "socket.io", "CONNECTED\nversion:1.2\n\n\x00": "stomp", "{}\x1e": "signalr", "o": "sockjs",
		`a["x"]`: "sockjs", "\x20\x02\x00\x00": "mqtt", `{"type":"welcome"}`: "actioncable", `{"type":"connection_ack"}`: "graphql-transport-ws",
		`[2,1234,{"roles":{}}]`: "wamp", `["1","1","room:a","phx_reply",{"status":"ok"}]`: "phoenix",
		`{"type":"price"}`: "", `[1,2]`: "", "": "", "hello": "", `[1,2,3]`: "",
	} {
		if got := Guess([]byte(frame)); got != want {
			t.Errorf("%q: %q", frame, got)
		}
		if want != "" {
			if _, err := Find(want); err != nil {
				t.Error(err)
			}
		}
	}
}
