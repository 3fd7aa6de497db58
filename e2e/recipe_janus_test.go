//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// janusPeer is a participant of Janus' room 1234.
type janusPeer struct {
	t               *testing.T
	conn            *websocket.Conn
	session, handle int64
}

// janusAnswer is what is read of Janus' messages.
type janusAnswer struct {
	Janus, Transaction string
	Data               struct{ ID int64 }
	Plugindata         struct{ Data struct{ Videoroom string } }
}

// ask sends a request and waits for its answer, which for what takes time is not the acknowledgement.
func (p *janusPeer) ask(kind string, with fields) (answer janusAnswer) {
	p.t.Helper()
	message := fields{"janus": kind, "transaction": kind, "apisecret": "YOUR-API-SECRET"}
	if p.session != 0 {
		message["session_id"] = p.session
	}
	if p.handle != 0 {
		message["handle_id"] = p.handle
	}
	for name, value := range with {
		message[name] = value
	}
	text, err := json.Marshal(message)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := p.conn.Write(ctx, websocket.MessageText, text); err != nil {
		p.t.Fatal(err)
	}
	for {
		_, got, err := p.conn.Read(ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		answer = janusAnswer{}
		if err := json.Unmarshal(got, &answer); err != nil {
			p.t.Fatalf("%s: %v", got, err)
		}
		if answer.Transaction == kind && answer.Janus != "ack" {
			return answer
		}
	}
}

// joinJanus has one more come to the room.
func joinJanus(t *testing.T, addr, display string) *janusPeer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+addr, &websocket.DialOptions{Subprotocols: []string{"janus-protocol"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	p := &janusPeer{t: t, conn: conn}
	p.session = p.ask("create", nil).Data.ID
	p.handle = p.ask("attach", fields{"plugin": "janus.plugin.videoroom"}).Data.ID
	if got := p.ask("message", fields{"body": fields{"request": "join", "ptype": "publisher", "room": 1234, "display": display}}); got.Plugindata.Data.Videoroom != "joined" {
		t.Fatalf("%+v", got)
	}
	return p
}

// TestRecipeJanus runs Janus itself, which gives up a session of which it has heard nothing for 3 s.
func TestRecipeJanus(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	config := func(room int) string {
		return files(t, map[string]string{
			"janus.jcfg": `general: {
  api_secret = "YOUR-API-SECRET"
  session_timeout = 3
  interface = "127.0.0.1"
}
plugins: { disable = "libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so" }
transports: { disable = "libjanus_http.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so" }
`,
			"janus.transport.websockets.jcfg": "general: {\n  ws = true\n  ws_port = " + port + "\n  ws_ip = \"127.0.0.1\"\n}\n",
			"janus.plugin.videoroom.jcfg":     fmt.Sprintf("room-%d: {\n  publishers = 6\n  notify_joining = true\n}\n", room),
		})
	}
	var janus *process
	start := func(room int) {
		t.Helper()
		dir := config(room)
		janus = launch(t, nil, "janus", "-F", dir, "-C", dir+"/janus.jcfg", "-o")
		eventually(t, "Janus to listen", func() bool { return open(addr) })
	}
	start(1234)
	f := &feedServer{recipe: findRecipe(t, "janus"), addr: addr}
	s := f.sidecar(t, "SSE_ROUTE_JANUS_PING_EVERY=500ms")
	events := f.events(t, s)
	events.until(t, "event: participants\ndata: {\"participants\":[{")
	come := func(name string) {
		t.Helper()
		p := joinJanus(t, addr, name)
		events.until(t, "event: joining\ndata: {\"joining\":{\"display\":\""+name+`"`)
		p.conn.CloseNow()
		events.until(t, "event: leaving\n")
		events.got.Reset()
	}
	come("ann")
	// Keepalives hold the session, for longer than Janus waits for one.
	idle := f.sidecar(t, "SSE_ROUTE_JANUS_PING_EVERY=0")
	f.events(t, idle).gap(t) // without them it is over
	come("bob")
	if strings.Contains(events.got.String(), "stream.gap") {
		t.Error("the session was given up")
	}
	idle.killed()
	janus.killed()
	events.gap(t)
	start(1234)
	events.until(t, "event: participants\n")
	come("cay")
	s.hides(t, "YOUR-API-SECRET")
	f.refuses(t, 403, "SSE_SECRET_JANUS=wrong")
	s.killed()
	janus.killed()
	start(99)
	f.refuses(t, 403)
}
