package dialect

import "testing"

// The first frames of servers, as the transcripts have them.
func TestGuess(t *testing.T) {
	for frame, want := range map[string]string{
		`0{"sid":"x","upgrades":[],"pingInterval":25000}`: "socket.io", "CONNECTED\nversion:1.2\n\n\x00": "stomp", "{}\x1e": "signalr", "o": "sockjs",
		`a["x"]`: "sockjs", "\x20\x02\x00\x00": "mqtt", `{"type":"welcome"}`: "actioncable", `{"type":"connection_ack"}`: "graphql-transport-ws",
		`{"type":"system","event":"connected","connectionId":"c","reconnectionToken":"t"}`: "webpubsub", `{"type":"system","event":"connected"}`: "",
		`{"C":"d-1F-A,0|B,1","S":1,"M":[]}`: "signalr-classic", `{"C":"s-0,1F","S":1,"M":[]}`: "signalr-classic", `{"C":"d-1","n":1}`: "",
		`{"type":"connection_ack","payload":{"connectionTimeoutMs":300000}}`: "appsync", `{"type":"connection_ack","connectionTimeoutMs":300000}`: "appsync", `{"server_id":"0"}`: "ddp", `{"msg":"connected","session":"x"}`: "ddp", `{"msg":"hello"}`: "", `{"op":"connected","clientId":"x"}`: "parse", `{"op":"connected"}`: "", `{"type":"connection_ack","payload":[]}`: "graphql-transport-ws",
		`[2,1234,{"roles":{}}]`: "wamp", `["1","1","room:a","phx_reply",{"status":"ok"}]`: "phoenix",
		`{"jsonrpc":"2.0","method":"aria2.onDownloadStart","params":[{"gid":"1"}]}`: "jsonrpc", `{"id":1,"connect":{"client":"c","ping":25}}` + "\n" + `{"id":2,"subscribe":{}}`: "centrifuge", `{"connect":{}}`: "", "INFO {\"server_id\":\"N\"} \r\n": "nats", `{"type":"price"}`: "", `[1,2]`: "", "": "", "hello": "", `[1,2,3]`: "",
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
