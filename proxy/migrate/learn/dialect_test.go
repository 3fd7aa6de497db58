package learn_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"sidestream/proxy/migrate/learn"
)

// dialed is where a transcript's session dials.
var dialed = regexp.MustCompile(`^    dials wss?://[^/ ]+(\S*)`)

// sessions are the conversations of a transcript of package dialect, as a client had them: each begins with "open".
func sessions(t *testing.T, file string) (all []*learn.Conversation, parts map[string]string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts = map[string]string{}
	for _, f := range archive.Files {
		parts[f.Name] = strings.TrimSuffix(string(f.Data), "\n")
	}
	target := "/feed"
	if from := parts["FROM"]; from != "" {
		_, rest, _ := strings.Cut(from, "://")
		_, target, _ = strings.Cut(rest, "/")
		target = "/" + target
	}
	var lines, protocol string
	open := false
	end := func() {
		if open {
			if strings.Contains(file, "/sockjs") {
				target = "/feed/123/abcdefgh/websocket"
			}
			c := talk(t, target, "", lines)
			c.Subprotocol = protocol
			all = append(all, c)
		}
		lines = ""
	}
	for line := range strings.Lines(parts["out"]) {
		line = strings.TrimSuffix(line, "\n")
		if m := dialed.FindStringSubmatch(line); m != nil {
			target = m[1]
		}
		switch line = strings.TrimPrefix(line, "    "); {
		case strings.HasPrefix(line, "open"):
			end()
			open, protocol = true, strings.TrimSpace(strings.TrimPrefix(line, "open"))
		case strings.HasPrefix(line, "closed"):
			lines += strings.Join(strings.Fields(line)[:2], " ") + "\n"
		case strings.HasPrefix(line, "<") || strings.HasPrefix(line, ">"):
			lines += line + "\n"
		}
	}
	end()
	return all, parts
}

// TestTranscripts checks that an env file that loads comes out of every session that was recorded, whatever became of it.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("../../../translate/dialect/testdata/*/*.txtar")
	if err != nil || len(files) < 40 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), func(t *testing.T) {
			all, _ := sessions(t, file)
			for _, c := range all {
				r, _ := conclude(t, seen(c))
				t.Log(r.Env)
			}
			r, _ := conclude(t, seen(all...))
			t.Log(r.Env)
		})
	}
}

// TestDialects checks that real sessions of each dialect are recognised, with what was subscribed to.
func TestDialects(t *testing.T) {
	for file, want := range map[string][]string{
		"actioncable/rails.txtar":              {`SUBSCRIBE={"channel":"ChatChannel","room":"a","greet":true}`},
		"actioncable/anycable.txtar":           {"SUBSCRIBE={\"channel\":\"ChatChannel\",\"room\":\"a\"}\n{\"channel\":\"ChatChannel\",\"room\":\"b\"}", "SUBPROTOCOL=actioncable-v1-ext-json"},
		"graphql-transport-ws/subscribe.txtar": {"SUBSCRIBE=subscription { tick { n room } }\n" + `{"query":"subscription B($r:String) { tick(room:$r) { text } }","variables":{"r":"b"},"operationName":"B"}`, `CONNECT={"token":"{query.token}"}`},
		"graphql-ws/subscribe.txtar":           {"SUBSCRIBE=subscription { tick { n room } }", `CONNECT={"token":"{query.token}"}`},
		"parse/livequery.txtar":                {"SUBSCRIBE=Order {\"keys\":[\"state\"],\"where\":{\"state\":\"open\"}}\nNote", `CONNECT={"applicationId":"app","clientKey":"key"}`, `EVENT="\(event) \(topic)"`},
		"ddp/meteor.txtar":                     {"SUBSCRIBE=orders [\"open\"]\nprices", `CONNECT={"resume":"{query.resume}"}`, "FROM=ws://localhost:3000/websocket"},
		"appsync/graphql.txtar":                {"SUBSCRIBE={\"query\":\"subscription { onTick(room: \\\"a\\\") { n } }\"}\n" + `{"query":"subscription B($room: String!) { onTick(room: $room) { n } }","variables":{"room":"b"},"operationName":"B"}`, `CONNECT={"apiKey":"{query.apiKey}"}`, "EVENT=topic"},
		"appsync/events.txtar":                 {"SUBSCRIBE=/default/news\n/default/chat/*", `CONNECT={"token":"{query.token}"}`, "FROM=ws://localhost:3000/event/realtime?tenant=7"},
		"appsync/iam.txtar":                    {"SUBSCRIBE=/default/news", `CONNECT={"accessKeyId":"{query.accessKeyId}","secretAccessKey":"{query.secretAccessKey}","sessionToken":"{query.sessionToken}","region":"us-east-1"}`},
		"mqtt/mosquitto.txtar":                 {"SUBSCRIBE=a/# 1\nb", `CONNECT={"keepAlive":20}`, "EVENT=topic"},
		"mqtt/pieces.txtar":                    {"SUBSCRIBE=a"},
		"mqtt/exactly.txtar":                   {"SUBSCRIBE=news 2\n+ 1", `CONNECT={"keepAlive":30,"version":5}`},
		"phoenix/v1.txtar":                     {"SUBSCRIBE=room:lobby", "FROM=ws://localhost:3000/socket?vsn=1.0.0"},
		"phoenix/v2.txtar":                     {"SUBSCRIBE=room:lobby {\"a\":1.10}\nstate:x", "FROM=ws://localhost:3000/socket?token={query.token}&vsn=2.0.0"},
		"signalr/finished.txtar":               {"SUBSCRIBE=stream Counter [1]\nstream Prices", "FROM=ws://localhost:3000/hub"},
		"signalr-classic/hubs.txtar":           {"SUBSCRIBE=Stocks\nChat.Join [\"red\"]\nChat.Echo [7]\nchat.slow [3]\nChat.Closed\nChat.Others [\"not to me\"]", "FROM=ws://localhost:3000/signalr?tenant=7"},
		"signalr-classic/persistent.txtar":     {"FROM=ws://localhost:3000/echo?tenant=7"},
		"signalr-classic/overrun.txtar":        {"SUBSCRIBE=Chat", "FROM=ws://localhost:3000/signalr"},
		"socket.io/events.txtar":               {"FROM=ws://localhost:3000/socket.io/"},
		"socket.io-v2/events.txtar":            {"SUBSCRIBE=/\n/admin?token={query.token}"},
		"sockjs/echo.txtar":                    {"FROM=ws://localhost:3000/feed", "HELLO=> b\\n\n> {\"s\":\"é<&>\"}"},
		"sockjs+stomp/spring.txtar":            {"SUBSCRIBE=/topic/prices", "FROM=ws://localhost:3000/feed"},
		"stomp/rabbitmq.txtar":                 {"SUBSCRIBE=/topic/a\n/queue/q {\"ack\":\"client-individual\"}", "CONNECT=login:guest\npasscode:{query.passcode}", "EVENT=topic"},
		"bayeux/faye.txtar":                    {"SUBSCRIBE=/orders/* {\"ext\":{\"k\":1}}\n/prices", `CONNECT={"ext":{"token":"{query.token}"}}`, "EVENT=topic"},
		"bayeux/ack.txtar":                     {"SUBSCRIBE=/a"},
		"nats/core.txtar":                      {"SUBSCRIBE=news.*\njobs.>", `CONNECT={"name":"sidecar","pass":"{query.pass}","user":"joe"}`, "EVENT=topic"},
		"nats/jetstream.txtar":                 {`SUBSCRIBE=a.> {"stream":"A"}`, "FROM=ws://localhost:3000/feed"},
		"centrifuge/centrifugo.txtar":          {"SUBSCRIBE=x {\"join_leave\":true}\nask:z", `CONNECT={"data":{"page":1}}`, "FROM=ws://localhost:3000/connection/websocket", "EVENT=topic"},
		"centrifuge/subscriptions.txtar":       {"SUBSCRIBE=a {\"data\":{\"from\":1},\"token\":\"{query.token}\"}\ncache:b", `CONNECT={"token":"{query.token}"}`, "FROM=ws://localhost:3000/feed"},
		"webpubsub/session.txtar":              {"SUBSCRIBE=chat\nprices", "FROM=ws://localhost:3000/client/hubs/chat?access_token={query.access_token}", "EVENT=topic"},
		"wamp/events.txtar":                    {"SUBSCRIBE=com.acme.price\ncom.acme {\"match\":\"prefix\"}", `CONNECT={"realm":"open"}`},
		"wamp/ticket.txtar":                    {"SUBSCRIBE=com.a", `CONNECT={"authid":"joe","realm":"staff","ticket":"{query.ticket}"}`},
	} {
		t.Run(file, func(t *testing.T) {
			all, _ := sessions(t, "../../../translate/dialect/testdata/"+file)
			r, _ := conclude(t, seen(all[0]))
			has(t, one(t, r), append(want, "PROTOCOL="+filepath.Dir(file))...)
		})
	}
}
