//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rabbit is a RabbitMQ node of the test's own, with its WebSocket plugins for STOMP and MQTT.
type rabbit struct {
	*process
	stomp, mqtt string // addresses; the path is /ws
	env         []string
}

// startRabbit starts one, which takes some seconds, with a port mapper of its own: the one that RabbitMQ would start
// outlives it.
func startRabbit(t *testing.T) *rabbit {
	t.Helper()
	dir := t.TempDir()
	port := func(addr string) string { _, p, _ := strings.Cut(addr, ":"); return p }
	amqp, dist, epmd := freeAddr(t), freeAddr(t), freeAddr(t)
	r := &rabbit{stomp: freeAddr(t), mqtt: freeAddr(t)}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plugins := write("plugins", "[rabbitmq_web_stomp,rabbitmq_web_mqtt].\n")
	config := write("rabbitmq.conf", strings.Join([]string{
		"listeners.tcp.1 = " + amqp, "stomp.listeners.tcp = none", "mqtt.listeners.tcp = none",
		"web_stomp.tcp.ip = 127.0.0.1", "web_stomp.tcp.port = " + port(r.stomp),
		"web_mqtt.tcp.ip = 127.0.0.1", "web_mqtt.tcp.port = " + port(r.mqtt), "mqtt.allow_anonymous = false",
		"default_permissions.configure = ^(?!forbidden)", "default_permissions.read = ^(?!forbidden)", "default_permissions.write = .*",
	}, "\n")+"\n")
	r.env = []string{"HOME=" + dir, "RABBITMQ_NODENAME=sidestream" + port(amqp) + "@localhost", "RABBITMQ_MNESIA_BASE=" + dir, "RABBITMQ_LOG_BASE=" + dir,
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins, "RABBITMQ_CONFIG_FILE=" + config, "RABBITMQ_DIST_PORT=" + port(dist),
		"ERL_EPMD_PORT=" + port(epmd), "ERL_EPMD_ADDRESS=127.0.0.1"}
	launch(t, nil, "epmd", "-port", port(epmd), "-address", "127.0.0.1")
	eventually(t, "Erlang's port mapper", func() bool { return open(epmd) })
	r.start(t)
	return r
}

func (r *rabbit) start(t *testing.T) {
	t.Helper()
	r.process = launch(t, r.env, "/usr/lib/rabbitmq/bin/rabbitmq-server")
	within(t, 3*patience, "RabbitMQ to start", func() bool {
		select {
		case <-r.ended:
			t.Fatalf("RabbitMQ ended: %s%s", &r.stdout, &r.stderr)
		default:
		}
		return strings.Contains(r.stdout.String(), "completed with") && open(r.stomp) && open(r.mqtt)
	})
}

// open reports whether somebody listens at addr.
func open(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// publish sends messages with the official STOMP client.
func (r *rabbit) publish(t *testing.T, messages ...map[string]any) {
	t.Helper()
	text, err := json.Marshal(messages)
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, nil, "node", "servers/stompjs.mjs", "ws://"+r.stomp+"/ws", "guest", "guest", string(text))
	if p.wait(t) != 0 {
		t.Fatalf("not published: %s", &p.stderr)
	}
}

func said(destination, body string) map[string]any {
	return map[string]any{"destination": destination, "body": body}
}

// connects is how often s has got through to its upstream.
func (s *sidecar) connects() int { return strings.Count(s.stderr.String(), "upstream connected") }

// silence is a client that says what it has to and then nothing: it returns once the server has cut it.
func silence(t *testing.T, addr, hello string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(hello)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1024)
	for err == nil {
		_, err = conn.Read(buf)
	}
	if os.IsTimeout(err) {
		t.Fatal("a silent client is not cut")
	}
}

// stompHandshake upgrades and connects with a heart-beat of half a second that then does not come: 0x81 begins a text
// message, of which the mask is zero.
func stompHandshake(addr string) string {
	frame := "CONNECT\nlogin:guest\npasscode:guest\naccept-version:1.2\nheart-beat:500,0\n\n\x00"
	return "GET /ws HTTP/1.1\r\nHost: " + addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v12.stomp\r\n\r\n" +
		"\x81" + string([]byte{0x80 | byte(len(frame)), 0, 0, 0, 0}) + frame
}

const login = "CONNECT=login:guest\npasscode:guest"

// TestDialectRabbitMQ is STOMP 1.2 and MQTT 3.1.1 against one RabbitMQ.
func TestDialectRabbitMQ(t *testing.T) {
	t.Parallel()
	r := startRabbit(t)
	stomp, mqtt := "ws://"+r.stomp+"/ws", "ws://"+r.mqtt+"/ws"
	t.Run("STOMP", func(t *testing.T) {
		s := startSidecar(t, hubRoute("stomp", stomp, login+"\nheart-beat:500,500", "SUBSCRIBE=/topic/news.*\n/queue/jobs {\"ack\":\"client-individual\"}",
			`EVENT=$headers.type // $topic`, "MAX_MESSAGE=1KiB")...)
		events := ask(t, s.addr, "HTTP/1.1", "/events", "")
		events.until(t, "retry:")
		s.explains(t, "upstream connected")
		r.publish(t, map[string]any{"destination": "/topic/news.a", "body": `{"a":1}`, "headers": map[string]string{"type": "x:y"}},
			said("/topic/news.b", "zwei\nß"), map[string]any{"destination": "/topic/news.c", "base64": "AP8B"}, said("/queue/jobs", "job 1"), said("/queue/jobs", "job 2"))
		events.event(t, "x:y", `{"a":1}`)
		events.until(t, "event: /topic/news.b\ndata: zwei\ndata: ß\n")
		events.event(t, "/topic/news.c", "AP8B")
		events.event(t, "/queue/jobs", "job 1")
		events.event(t, "/queue/jobs", "job 2")
		atLimit(t, events, func(filling string) { r.publish(t, said("/topic/news.l", filling)) }, func(filling string) int { return len(filling) }, 1<<10,
			func(filling string) string { return "data: " + filling + "\n" })
		for range 2 { // without heart-beats it would be gone as well
			silence(t, r.stomp, stompHandshake(r.stomp))
		}
		if n := s.connects(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("STOMP, what was not acknowledged comes again", func(t *testing.T) {
		r.publish(t, said("/queue/kept", "1"))
		env := hubRoute("stomp", stomp, login, "SUBSCRIBE=/queue/kept {\"ack\":\"client\"}", "LINGER=1s", "RETRY=100ms")
		for _, want := range []string{"1", "2"} {
			s := startSidecar(t, env...)
			events := ask(t, s.addr, "HTTP/1.1", "/events", "")
			events.event(t, "", want)
			if want == "2" && strings.Contains(events.got.String(), "data: 1\n") {
				t.Error("what was acknowledged came again")
			}
			s.drain(t)
			r.publish(t, said("/queue/kept", "2"))
		}
	})
	t.Run("MQTT", func(t *testing.T) {
		s := startSidecar(t, hubRoute("mqtt", mqtt, `CONNECT={"username":"guest","password":"guest","keepAlive":2}`, "SUBSCRIBE=news/+ 2\nplain", "EVENT=topic")...)
		events := ask(t, s.addr, "HTTP/1.1", "/events", "")
		events.until(t, "retry:")
		s.explains(t, "upstream connected")
		s.explains(t, "line 1 of SUBSCRIBE is granted with QoS 1 alone")
		r.publish(t, said("/topic/news.a", `{"a":1}`), said("/topic/plain", "text"), map[string]any{"destination": "/topic/news.b", "base64": "AP8B"})
		events.event(t, "news/a", `{"a":1}`)
		events.event(t, "plain", "text")
		events.event(t, "news/b", "AP8B")
	})
	for name, test := range map[string]struct {
		env    []string
		status int
		says   string
	}{
		"STOMP, a wrong password":     {hubRoute("stomp", stomp, "CONNECT=login:guest\npasscode:wrong", "SUBSCRIBE=/topic/a"), 401, "Bad CONNECT"},
		"STOMP, no such destination":  {hubRoute("stomp", stomp, login, "SUBSCRIBE=/nonsense/a"), 400, "Unknown destination"},
		"STOMP, nor one called login": {hubRoute("stomp", stomp, login, "SUBSCRIBE=/login/a"), 400, "Unknown destination"},
		"STOMP, where MQTT is spoken": {hubRoute("stomp", mqtt, login, "SUBSCRIBE=/topic/a"), 200, "SUBPROTOCOL"},
		"STOMP, a queue that is not":  {hubRoute("stomp", stomp, login, "SUBSCRIBE=/amq/queue/nope"), 200, "does every destination exist"},
		"STOMP, one that is not ours": {hubRoute("stomp", stomp, login, "SUBSCRIBE=/queue/forbidden"), 200, "may the user of CONNECT read it?"},
		// RabbitMQ 3.10 closes without an answer here.
		"MQTT, a wrong password":        {hubRoute("mqtt", mqtt, `CONNECT={"username":"guest","password":"wrong"}`, "SUBSCRIBE=a"), 200, "instead of answering CONNECT"},
		"MQTT, nobody":                  {hubRoute("mqtt", mqtt, "SUBSCRIBE=a"), 200, "instead of answering CONNECT"},
		"MQTT 5, where it is not known": {hubRoute("mqtt", mqtt, `CONNECT={"version":5,"username":"guest","password":"guest"}`, "SUBSCRIBE=a"), 200, "instead of answering CONNECT"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSidecar(t, test.env...)
			if status := s.firstStatus(t); status != test.status {
				t.Errorf("status %d", status)
			}
			s.explains(t, test.says)
			if strings.Contains(s.stderr.String(), "wrong") {
				t.Errorf("the password is in the log: %s", &s.stderr)
			}
		})
	}
	t.Run("it dies and comes back", func(t *testing.T) {
		s := startSidecar(t, append(hubRoute("stomp", stomp, login, "SUBSCRIBE=/topic/a"),
			"SSE_ROUTE_MQTT_PATH=/mqtt", "SSE_ROUTE_MQTT_PROTOCOL=mqtt", "SSE_ROUTE_MQTT_FROM="+mqtt, "SSE_ROUTE_MQTT_SUBSCRIBE=a",
			`SSE_ROUTE_MQTT_CONNECT={"username":"guest","password":"guest"}`)...)
		both := []*stream{ask(t, s.addr, "HTTP/1.1", "/events", ""), ask(t, s.addr, "HTTP/1.1", "/mqtt", "")}
		eventually(t, "both to connect", func() bool { return s.connects() == 2 })
		syscall.Kill(-r.Process.Pid, syscall.SIGKILL) // the group: what was started is a script
		<-r.ended
		for _, events := range both {
			events.event(t, "stream.gap", gapEvent)
		}
		r.start(t)
		eventually(t, "both to connect again", func() bool { return s.connects() == 4 })
		r.publish(t, said("/topic/a", "again"))
		for _, events := range both {
			events.conn.SetDeadline(time.Now().Add(patience)) // Erlang took half a minute to start on a loaded machine
			events.event(t, "", "again")
		}
	})
}

// broker is a mosquitto of the test's own. It needs a plain listener too, by which the test publishes.
type broker struct {
	*process
	plain, ws, config string
}

func startMosquitto(t *testing.T, settings ...string) *broker {
	t.Helper()
	b := &broker{plain: freeAddr(t), ws: freeAddr(t)}
	port := func(addr string) string { _, p, _ := strings.Cut(addr, ":"); return p }
	dir := t.TempDir()
	b.config = filepath.Join(dir, "mosquitto.conf")
	// A process that gives up being root outlives a test that is killed.
	lines := append([]string{"user root", "listener " + port(b.plain) + " 127.0.0.1", "listener " + port(b.ws) + " 127.0.0.1", "protocol websockets"}, settings...)
	if err := os.WriteFile(b.config, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	return b
}

func (b *broker) start(t *testing.T) {
	t.Helper()
	b.process = launch(t, nil, "/usr/sbin/mosquitto", "-c", b.config)
	eventually(t, "mosquitto to listen", func() bool { return open(b.plain) && open(b.ws) })
}

// exchange sends packets over plain TCP, in bytes by hand (MQTT 3.1.1, 3), and waits for the answers.
func (b *broker) exchange(t *testing.T, packets, answers string) {
	t.Helper()
	conn, err := net.Dial("tcp", b.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(packets)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(answers))
	if n, err := readFull(conn, got); err != nil || string(got) != answers {
		t.Fatalf("answered %x, %v", got[:n], err)
	}
}

// mqttConnect is CONNECT with a clientId of two letters, "\x02" for a clean session or "\x00", and its answer.
func mqttConnect(clean, clientID string) string {
	return "\x10\x0e\x00\x04MQTT\x04" + clean + "\x00\x1e\x00\x02" + clientID
}

const mqttAccepted = "\x20\x02\x00\x00"

// mqttMessage is PUBLISH with the packet identifier 1.
func mqttMessage(t *testing.T, flags byte, topic, payload string) string {
	t.Helper()
	body := string([]byte{byte(len(topic) >> 8), byte(len(topic))}) + topic + "\x00\x01" + payload
	if len(body) >= 1<<14 {
		t.Fatal("longer than the length that is written here")
	}
	return string([]byte{0x30 | flags, byte(len(body)&127 | 128), byte(len(body) >> 7 & 127)}) + body
}

// publish sends one message with QoS 1.
func (b *broker) publish(t *testing.T, topic, payload string, retain bool) {
	t.Helper()
	flags := byte(2)
	if retain {
		flags |= 1
	}
	b.exchange(t, mqttConnect("\x02", "pb")+mqttMessage(t, flags, topic, payload), mqttAccepted+"\x40\x02\x00\x01")
}

func readFull(conn net.Conn, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = conn.Read(p[n:])
		n += k
	}
	return n, err
}

func TestDialectMosquitto(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"4", "5"} {
		t.Run("version "+version, func(t *testing.T) {
			b := startMosquitto(t, "allow_anonymous true")
			qos := map[string]string{"4": "0", "5": "1"}[version]
			b.publish(t, "news/kept", "retained", true)
			s := startSidecar(t, hubRoute("mqtt", "ws://"+b.ws, `CONNECT={"version":`+version+`,"keepAlive":1}`, "SUBSCRIBE=news/# "+qos, "MAX_MESSAGE=1KiB",
				`EVENT=if $headers.retain then "retained" else topic end`)...)
			events := ask(t, s.addr, "HTTP/1.1", "/events", "")
			events.event(t, "retained", "retained")
			b.publish(t, "news/a", `{"a":1}`, false)
			events.event(t, "news/a", `{"a":1}`)
			b.publish(t, "news/b", "\x00\xff\x01", false)
			events.event(t, "news/b", "AP8B")
			atLimit(t, events, func(filling string) { b.publish(t, "news/l", filling, false) }, func(filling string) int { return len(filling) }, 1<<10,
				func(filling string) string { return "event: news/l\ndata: " + filling + "\n" })
			for range 2 { // a client with the same keep alive that says nothing
				silence(t, b.plain, "\x10\x0e\x00\x04MQTT\x04\x02\x00\x01\x00\x02xy")
			}
			if n := s.connects(); n != 1 {
				t.Errorf("%d connections", n)
			}
			events.got.Reset()
			b.Process.Kill()
			<-b.ended
			b.start(t)
			b.publish(t, "news/kept", "retained", true)
			events.event(t, "stream.gap", gapEvent)
			eventually(t, "the second connection", func() bool { return s.connects() == 2 })
			b.publish(t, "news/c", "again", false)
			events.event(t, "news/c", "again")
			if strings.Contains(events.got.String(), "event: retained") {
				t.Error("a retained message that had not changed came again")
			}
		})
	}
}

// A session at the broker bridges an interruption: nothing is lost, and nothing is said. What was on its way just then
// may come twice, in its order.
func TestDialectMosquittoResumes(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t, "allow_anonymous true", "max_queued_messages 10000")
	for name, connect := range map[string]string{"5": `{"version":5}`, "3.1.1": `{"clientId":"kept","cleanSession":false}`} {
		t.Run(name, func(t *testing.T) {
			r := startRecorder(t, b.ws)
			s := startSidecar(t, hubRoute("mqtt", "ws://"+r.addr(), "CONNECT="+connect, "SUBSCRIBE=news 1")...)
			events := ask(t, s.addr, "HTTP/1.1", "/events", "")
			s.explains(t, "upstream connected")
			for n := range 60 {
				if n%12 == 6 {
					eventually(t, "the connection", func() bool { return s.connects() == 1+n/12 })
					r.cut()
				}
				b.publish(t, "news", fmt.Sprint("n", n), false)
			}
			for n := range 60 {
				events.event(t, "", fmt.Sprint("n", n))
			}
			got := events.got.String()
			if strings.Contains(got, "stream.gap") {
				t.Errorf("%s", got)
			}
			last, back := -1, 0
			for _, m := range regexp.MustCompile(`data: n(\d+)`).FindAllStringSubmatch(got, -1) {
				n, _ := strconv.Atoi(m[1])
				if n <= last {
					back++
				}
				last = n
			}
			if n := s.connects() - 1; back > n { // the broker begins again with a connection only
				t.Errorf("%d times back over %d interruptions: %s", back, n, got)
			}
			if s.connects() < 5 {
				t.Errorf("only %d connections: nothing was bridged", s.connects())
			}
		})
	}
}

// What one filter with QoS 0 misses is said each time, also when the session at the broker goes on.
func TestDialectMosquittoSaysEachGap(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t, "allow_anonymous true")
	r := startRecorder(t, b.ws)
	s := startSidecar(t, hubRoute("mqtt", "ws://"+r.addr(), `CONNECT={"clientId":"mixed","cleanSession":false}`, "SUBSCRIBE=sure 1\nplain 0")...)
	events := ask(t, s.addr, "HTTP/1.1", "/events", "")
	for n := range 4 {
		eventually(t, "the connection", func() bool { return s.connects() == 1+n })
		b.publish(t, "plain", fmt.Sprint("n", n), false)
		events.event(t, "", fmt.Sprint("n", n))
		events.got.Reset()
		r.cut()
		events.event(t, "stream.gap", gapEvent)
	}
}

// What one stream subscribed to, in a session that stays, is not for the next one that takes it over, however often that
// comes back to it. Nor is what anybody else did, with QoS 2.
func TestDialectMosquittoSessionOfAnother(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t, "allow_anonymous true")
	r := startRecorder(t, b.ws)
	const connect = `CONNECT={"clientId":"me","cleanSession":false}`
	first := startSidecar(t, hubRoute("mqtt", "ws://"+b.ws, connect, "SUBSCRIBE=users/1/# 1")...)
	ask(t, first.addr, "HTTP/1.1", "/events", "")
	first.explains(t, "upstream connected")
	first.killed()
	b.publish(t, "users/1/queued", "secret", false)
	b.exchange(t, mqttConnect("\x00", "me")+"\x82\x0c\x00\x01\x00\x07twice/#\x02", "\x20\x02\x01\x00")
	s := startSidecar(t, hubRoute("mqtt", "ws://"+r.addr(), connect, "SUBSCRIBE=users/2/# 1")...)
	events := ask(t, s.addr, "HTTP/1.1", "/events", "")
	for n := range 3 {
		eventually(t, "the connection", func() bool { return s.connects() == 1+n })
		b.publish(t, "users/1/inbox", "secret", false)
		b.exchange(t, mqttConnect("\x02", "pb")+mqttMessage(t, 4, "twice/x", "secret")+"\x62\x02\x00\x01", mqttAccepted+"\x50\x02\x00\x01\x70\x02\x00\x01")
		b.publish(t, "users/2/inbox", fmt.Sprint("n", n), false)
		events.event(t, "", fmt.Sprint("n", n))
		r.cut()
	}
	if got := events.got.String(); strings.Contains(got, "secret") {
		t.Errorf("another's messages: %s", got)
	}
	if n := s.connects(); n > 4 {
		t.Errorf("%d connections", n)
	}
}

func TestDialectMosquittoRefuses(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sidestream-mosquitto-") // mosquitto, which gives up being root, must get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	passwords := filepath.Join(dir, "passwords")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(passwords, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	b := startMosquitto(t, "allow_anonymous false", "password_file "+passwords)
	for _, version := range []string{"4", "5"} {
		s := startSidecar(t, hubRoute("mqtt", "ws://"+b.ws, `CONNECT={"version":`+version+`,"username":"joe","password":"geheim"}`, "SUBSCRIBE=a")...)
		if status := s.firstStatus(t); status != 401 {
			t.Errorf("version %s: status %d", version, status)
		}
		if strings.Contains(s.stderr.String(), "geheim") {
			t.Errorf("the password is in the log: %s", &s.stderr)
		}
	}
}

// aedes sends a packet in several messages.
func TestDialectAedes(t *testing.T) {
	t.Parallel()
	h := startHub(t, "aedes", `{"password":"secret"}`)
	s := startSidecar(t, hubRoute("mqtt", "ws://"+h.addr, `CONNECT={"username":"joe","password":"secret"}`, "SUBSCRIBE=news/# 1", "EVENT=topic")...)
	events := ask(t, s.addr, "HTTP/1.1", "/events", "")
	events.until(t, "retry:")
	s.explains(t, "upstream connected")
	for qos := range 2 {
		h.do(t, map[string]any{"do": "publish", "topic": fmt.Sprint("news/", qos), "payload": `{"a":1}`, "qos": qos}, nil)
		events.event(t, fmt.Sprint("news/", qos), `{"a":1}`)
	}
	h.comesBack(t, events)
	eventually(t, "the second connection", func() bool { return s.connects() == 2 })
	h.do(t, map[string]any{"do": "publish", "topic": "news/x", "payload": "again"}, nil)
	events.event(t, "news/x", "again")
	refused := startSidecar(t, hubRoute("mqtt", "ws://"+h.addr, `CONNECT={"username":"joe","password":"wrong"}`, "SUBSCRIBE=a")...)
	if status := refused.firstStatus(t); status != 401 {
		t.Errorf("status %d", status)
	}
	newer := startSidecar(t, hubRoute("mqtt", "ws://"+h.addr, `CONNECT={"version":5,"username":"joe","password":"secret"}`, "SUBSCRIBE=a")...)
	if status := newer.firstStatus(t); status != 400 {
		t.Errorf("MQTT 5: status %d", status)
	}
	newer.explains(t, "leave version out of CONNECT")
}
