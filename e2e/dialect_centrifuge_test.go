//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// centrifugoConfig has channels with history and recovery, in plain: without, in closed: for which a token is needed, and in cache: which
// remember their last value alone. Its memory engine forgets all with the process.
const centrifugoConfig = `{"client":{"allowed_origins":["*"],"token":{"hmac_secret_key":"secret"},"allow_anonymous_connect_without_token":true,"ping_interval":"1s","pong_timeout":"700ms","expired_close_delay":"1s","expired_sub_close_delay":"1s"},
"http_api":{"insecure":true},"channel":{"without_namespace":{"history_size":1000,"history_ttl":"600s","force_recovery":true,"join_leave":true,"presence":true,"allow_presence_for_subscriber":true,
"allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true,"allow_publish_for_client":true,"allow_publish_for_anonymous":true},"namespaces":[
{"name":"plain","allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true},{"name":"closed","history_size":1000,"history_ttl":"600s","allow_recovery":true},
{"name":"cache","history_size":1,"history_ttl":"600s","force_recovery":true,"force_recovery_mode":"cache","allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true}]}}`

// centrifugo is a Centrifugo of the test's own.
type centrifugo struct {
	*process
	program, config, addr string
}

func startCentrifugo(t *testing.T) *centrifugo {
	t.Helper()
	return startCentrifugoWith(t, centrifugoConfig)
}

func startCentrifugoWith(t *testing.T, config string) *centrifugo {
	t.Helper()
	c := &centrifugo{program: goServer(t, "centrifugo"), config: filepath.Join(t.TempDir(), "config.json"), addr: freeAddr(t)}
	if err := os.WriteFile(c.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	return c
}

func (c *centrifugo) start(t *testing.T) {
	t.Helper()
	host, port, _ := strings.Cut(c.addr, ":")
	c.process = launch(t, nil, c.program, "-c", c.config, "--http_server.address", host, "--http_server.port", port)
	eventually(t, "Centrifugo to listen", func() bool { return open(c.addr) })
}

// kill ends it without a word.
func (c *centrifugo) kill() {
	c.Process.Kill()
	<-c.ended
}

// api asks for something over Centrifugo's HTTP API.
func (c *centrifugo) api(t *testing.T, method string, params map[string]any) string {
	t.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := plain.Post("http://"+c.addr+"/api/"+method, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || bytes.Contains(answer, []byte(`"error"`)) {
		t.Fatalf("%s: %d %s %v", method, resp.StatusCode, answer, err)
	}
	return string(answer)
}

func (c *centrifugo) publish(t *testing.T, channel string, data any) {
	t.Helper()
	c.api(t, "publish", map[string]any{"channel": channel, "data": data})
}

// token makes a JWT that is good for some seconds: for connections of a user, or with a channel for a subscription.
func (c *centrifugo) token(t *testing.T, user, channel string, seconds int) string {
	t.Helper()
	args := []string{"gentoken", "-c", c.config, "-q", "-u", user, "-t", strconv.Itoa(seconds)}
	if channel != "" {
		args = append(args, "-s", channel)
		args[0] = "gensubtoken"
	}
	out, err := exec.Command(c.program, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func (c *centrifugo) route(settings ...string) []string {
	return hubRoute("centrifuge", "ws://"+c.addr, settings...)
}

func TestDialectCentrifuge(t *testing.T) {
	t.Parallel()
	c := startCentrifugo(t)
	s := startSidecar(t, c.route("CONNECT={\"token\":\""+c.token(t, "joe", "", 600)+"\"}", "SUBSCRIBE=news {\"join_leave\":true}\nclosed:a {\"token\":\""+c.token(t, "joe", "closed:a", 600)+"\"}",
		`EVENT=event // "\(topic) \($headers.kind // $headers.user // "")"`, "SEND=true", `HELLO=> news {"hello":1}`, "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.1", "/events", "")
	events.until(t, "retry:")
	s.explains(t, "upstream connected")
	events.event(t, "news joe", `{"hello":1}`)
	c.api(t, "publish", map[string]any{"channel": "news", "data": map[string]any{"n": 1.5}, "tags": map[string]string{"Kind": "a:b"}})
	c.publish(t, "closed:a", "zwei\nß")
	events.event(t, "news a:b", `{"n":1.5}`)
	events.until(t, "event: closed:a \ndata: zwei\ndata: ß\n")
	page := official(t, "centrifuge", "ws://"+c.addr+"/connection/websocket", `{"token":"`+c.token(t, "ann", "", 600)+`","subscribe":["news"]}`)
	page.shows(t, `{"subscribed":"news"}`)
	events.until(t, "event: join\ndata: {\"user\":\"ann\",")
	if !s.posts(`news {"from":"page"}`) || !s.posts(`{"rpc":{"method":"none"}}`) || s.posts("news") {
		t.Error("a message is refused, or what is none is taken")
	}
	events.event(t, "news joe", `{"from":"page"}`)
	page.shows(t, `{"channel":"news","data":{"from":"page"}}`)
	page.Process.Kill()
	<-page.ended
	events.until(t, "event: leave\n") // else it may share a frame with what follows
	s.explains(t, "rpc: not available (108)")
	atLimit(t, events, func(filling string) { c.publish(t, "news", filling) },
		func(filling string) int {
			return len(fmt.Sprintf(`{"push":{"channel":"news","pub":{"data":"%s","offset":4}}}`, filling))
		}, 4<<10, func(filling string) string { return "data: " + filling + "\n" })
	time.Sleep(2500 * time.Millisecond) // pings, which are answered
	if n := s.connects(); n != 1 {
		t.Errorf("%d connections", n)
	}

	// What came while nobody was connected comes, without a gap.
	events.got.Reset()
	c.api(t, "disconnect", map[string]any{"user": "joe", "disconnect": map[string]any{"code": 4000, "reason": "for a while"}})
	c.publish(t, "closed:a", "meanwhile")
	events.event(t, "closed:a ", "meanwhile")
	c.publish(t, "news", "after")
	events.event(t, "news ", "after")
	if text := events.got.String(); strings.Contains(text, "stream.gap") || s.connects() != 2 {
		t.Errorf("%d connections: %s", s.connects(), text)
	}

	// With the memory engine all is gone that came before a restart.
	events.got.Reset()
	c.kill()
	c.start(t)
	events.event(t, "stream.gap", gapEvent)
	c.publish(t, "news", "again")
	events.event(t, "news ", "again")
	c.api(t, "unsubscribe", map[string]any{"user": "joe", "channel": "news"})
	events.event(t, "stream.refused", `{"status":403}`)
	s.explains(t, "the server ended the subscription to news (2000): server unsubscribe")
}

// TestDialectCentrifugeExpires: a token that stands in a file is read again when it has expired, and nothing is lost.
func TestDialectCentrifugeExpires(t *testing.T) {
	t.Parallel()
	c := startCentrifugo(t)
	file := filepath.Join(t.TempDir(), "connect")
	write := func(seconds int) {
		if err := os.WriteFile(file, []byte(`{"token":"`+c.token(t, "joe", "", seconds)+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(2)
	s := startSidecar(t, c.route("CONNECT_FILE="+file, "SUBSCRIBE=news")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	write(600)
	n := 0
	eventually(t, "another connection", func() bool {
		c.publish(t, "news", n)
		n++
		time.Sleep(20 * time.Millisecond)
		return s.connects() == 2
	})
	c.publish(t, "news", "last")
	events.event(t, "", `"last"`)
	if text := events.got.String(); strings.Contains(text, "stream.gap") || strings.Count(text, "data: ") != n+2 { // and that of stream.open
		t.Errorf("%d were said: %s", n, text)
	}
}

func TestDialectCentrifugeRefusals(t *testing.T) {
	t.Parallel()
	c := startCentrifugo(t)
	expired := c.token(t, "joe", "", 1)
	time.Sleep(2 * time.Second)
	for name, r := range map[string]struct {
		connect, subscribe string
		status             int
		says               string
	}{
		"token":         {`{"token":"bad"}`, "news", 401, "the server closed the connection for good (3500): invalid token"},
		"expired":       {`{"token":"` + expired + `"}`, "news", 401, "the server refused the connection: token expired (109)"},
		"channel":       {"", "closed:a", 403, "the server refused the channel closed:a: permission denied (103)"},
		"unknown":       {"", "nothing:a", 404, "unknown channel (102)"},
		"subscription":  {"", `closed:a {"token":"x.y.z"}`, 403, "permission denied (103)"},
		"bad connect":   {`{"headers":7}`, "news", 400, "bad request"},
		"no permission": {"", "cache:a\nclosed:b", 403, "permission denied (103)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, c.route("CONNECT="+r.connect, "SUBSCRIBE="+r.subscribe)...)
			if got := s.firstStatus(t); got != r.status {
				t.Errorf("status %d, want %d", got, r.status)
			}
			s.explains(t, r.says)
		})
	}
}

// TestDialectCentrifugeCuts cuts the connection to Centrifugo again and again while messages come: each arrives once and in order in its
// channel, and no gap is said, but where a channel has no history, or its last value alone.
func TestDialectCentrifugeCuts(t *testing.T) {
	t.Parallel()
	c := startCentrifugo(t)
	cut := &severer{target: c.addr}
	front := cut.listen(t)
	s := startSidecar(t, hubRoute("centrifuge", "ws://"+front, "SUBSCRIBE=a\nb\nc", "EVENT=topic")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	others := map[string]*stream{}
	for _, channel := range []string{"plain:a", "cache:a"} {
		other := startSidecar(t, hubRoute("centrifuge", "ws://"+front, "SUBSCRIBE="+channel)...)
		others[channel] = ask(t, other.addr, "HTTP/1.0", "/events", "retry: ")
		other.explains(t, "upstream connected")
	}
	const each = 400
	done := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() { // ends with done
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(rand.IntN(400)) * time.Millisecond):
				cut.sever(rand.IntN(3) == 0)
			}
		}
	})
	for n := range each {
		for _, channel := range []string{"a", "b", "c", "plain:a", "cache:a"} {
			c.publish(t, channel, fmt.Sprint(channel, n))
		}
		time.Sleep(15 * time.Millisecond)
	}
	close(done)
	cutting.Wait()
	want := map[string][]string{}
	for _, channel := range []string{"a", "b", "c"} {
		events.event(t, channel, fmt.Sprint(channel, each-1))
		for n := range each {
			want[channel] = append(want[channel], fmt.Sprint("data: ", channel, n))
		}
	}
	text := events.got.String()
	for channel, lines := range want {
		var got []string
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "data: "+channel) {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, lines) {
			t.Errorf("%s: %d of %d, or out of order: %v", channel, len(got), each, got)
		}
	}
	if n := s.connects(); n < 5 || strings.Contains(text, "stream.gap") {
		t.Errorf("%d connections; a gap: %v", n, strings.Contains(text, "stream.gap"))
	}
	for _, other := range others {
		other.until(t, "stream.gap")
	}
}
