//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// recipe is a file of recipes/ with the server that it is tried on.
type recipe struct {
	name   string
	path   string            // of the route
	server string            // servers/<server>.mjs
	from   map[string]string // what stands in the file for the server, and the scheme to write instead
}

var recipes = map[string]recipe{
	"homeassistant":     {path: "/events/home", from: map[string]string{"ws://homeassistant.local:8123": "ws"}},
	"discord":           {path: "/events/discord", from: map[string]string{"wss://gateway.discord.gg": "ws"}},
	"mattermost":        {path: "/events/chat", from: map[string]string{"wss://mattermost.example.com": "ws"}},
	"slack-socket-mode": {path: "/events/slack", server: "slack", from: map[string]string{"wss://wss-primary.slack.com": "ws", "https://slack.com": "http"}},
	"kraken-v2":         {path: "/events/kraken", server: "kraken", from: map[string]string{"wss://ws.kraken.com": "ws"}},
	"coinbase":          {path: "/events/coinbase", from: map[string]string{"wss://ws-feed.exchange.coinbase.com": "ws"}},
	"binance":           {path: "/events/binance", from: map[string]string{"wss://stream.binance.com:9443": "ws"}},
	"htx":               {path: "/events/htx", from: map[string]string{"wss://api.huobi.pro": "ws"}},
	"pusher":            {path: "/events/pusher", from: map[string]string{"wss://ws-mt1.pusher.com": "ws"}},
	"aria2":             {path: "/events/aria2", from: map[string]string{"ws://localhost:6800": "ws"}},
	"pusher-private":    {path: "/events/orders/{id}", server: "pusher", from: map[string]string{"wss://ws-mt1.pusher.com": "ws", "https://your-app.example": "http"}},
	"twitch":            {path: "/events/twitch", from: map[string]string{"wss://eventsub.wss.twitch.tv": "ws", "https://api.twitch.tv": "http"}},
	"supabase":          {path: "/events/messages?token=ann", from: map[string]string{"wss://YOUR-PROJECT.supabase.co": "ws"}},
	"okx":               {path: "/events/okx", from: map[string]string{"wss://ws.okx.com:8443": "ws"}},
	"obs":               {path: "/events/obs", from: map[string]string{"ws://localhost:4455": "ws"}},
	"redis":             {path: "/events/redis/prices", from: map[string]string{"redis://sidestream:SECRET@redis:6379": "redis"}},
	"kubernetes":        {path: "/events/pods", from: map[string]string{"https://kubernetes.default.svc": "http"}},
	"etcd3":             {path: "/events/config", from: map[string]string{"http://localhost:2379": "http"}},
	"docker":            {path: "/events/docker", from: map[string]string{"http+unix:///var/run/docker.sock": "http+unix"}},
	"podman":            {path: "/events/podman", server: "docker", from: map[string]string{"http+unix:///run/podman/podman.sock": "http+unix"}},
	"prometheus":        {path: "/events/prometheus/alerts", from: map[string]string{"http://localhost:9090": "http"}},
	"alertmanager":      {path: "/events/alertmanager", from: map[string]string{"http://localhost:9093": "http"}},
	"syncthing":         {path: "/events/syncthing", from: map[string]string{"http://localhost:8384": "http"}},
	"icinga":            {path: "/events/icinga", from: map[string]string{"https://localhost:5665": "https"}},
	"janus":             {path: "/events/janus", from: map[string]string{"ws://localhost:8188": "ws"}},
	"nodered":           {path: "/events/nodered", from: map[string]string{"ws://localhost:1880": "ws"}},
	"bybit":             {path: "/events/bybit", from: map[string]string{"wss://stream.bybit.com": "ws"}},
	"coinbase-private":  {path: "/events/coinbase/account", server: "coinbaseprivate", from: map[string]string{"wss://ws-direct.exchange.coinbase.com": "ws"}},
	"firebase":          {path: "/events/firebase", from: map[string]string{"https://YOUR-DATABASE.firebaseio.com": "http"}},
	"openai-realtime":   {path: "/events/openai?session=0123456789abcdef", server: "openai", from: map[string]string{"wss://api.openai.com": "ws"}},
	"salesforce":        {path: "/events/salesforce", from: map[string]string{"https://YOUR-DOMAIN.my.salesforce.com": "http"}},
	"ethereum":          {path: "/events/blocks", from: map[string]string{"wss://mainnet.infura.io": "ws"}},
}

func findRecipe(t *testing.T, name string) recipe {
	t.Helper()
	r, ok := recipes[name]
	if !ok {
		t.Fatalf("no recipe %s", name)
	}
	if r.name = name; r.server == "" {
		r.server = name
	}
	return r
}

func (r recipe) file() string { return filepath.Join("recipes", r.name+".env") }

// TestRecipesPassCheck also holds that every file is tried by a test.
func TestRecipesPassCheck(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("recipes/*.env")
	if err != nil || len(files) != len(recipes) {
		t.Fatalf("%d recipes of %d: %v", len(files), len(recipes), err)
	}
	for name := range recipes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if code, stdout, stderr := run(t, nil, "-env-file", findRecipe(t, name).file(), "check"); code != 0 || !strings.Contains(stdout, "ok") {
				t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

// feedServer is one of our small servers. It can be killed and come back.
type feedServer struct {
	*process
	recipe
	addr, options string
}

func startFeedServer(t *testing.T, name, options string) *feedServer {
	t.Helper()
	f := &feedServer{recipe: findRecipe(t, name), addr: freeAddr(t), options: options}
	f.start(t)
	return f
}

func (f *feedServer) start(t *testing.T) {
	t.Helper()
	f.process = launch(t, nil, "node", filepath.Join("servers", f.server+".mjs"), f.addr, f.options)
	eventually(t, f.server+" to listen", func() bool { return strings.Contains(f.stdout.String(), "listening") })
}

// restart kills the server, and starts it with other options.
func (f *feedServer) restart(t *testing.T, options string) {
	t.Helper()
	f.Process.Kill()
	<-f.ended
	f.options = options
	f.start(t)
}

// fields are a command's.
type fields map[string]any

// do has the server do something, and reads the answer into out.
func (f *feedServer) do(t *testing.T, what string, with fields, out any) {
	t.Helper()
	command := fields{"do": what}
	for name, value := range with {
		command[name] = value
	}
	body, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := plain.Post("http://"+f.addr+"/control", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if out == nil {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// reach does it again until n connections, or what the server counts, were reached.
func (f *feedServer) reach(t *testing.T, n int, what string, with fields) {
	t.Helper()
	eventually(t, what+" to reach the clients", func() bool {
		var got int
		f.do(t, what, with, &got)
		return got == n
	})
}

// feedSeen is what a server knows of its clients.
type feedSeen struct {
	Dials []struct{ URL, Host, Origin, Authorization string }
	Heard []map[string]any
	Beats, Kicked, Open, Pongs,
	Late int
	Asked []struct{ Method, Authorization, Body string }
	Acked []string
}

func (f *feedServer) seen(t *testing.T) (seen feedSeen) {
	t.Helper()
	f.do(t, "seen", nil, &seen)
	return seen
}

// sidecar runs the recipe with nothing but the address changed, and what env adds.
func (f *feedServer) sidecar(t *testing.T, env ...string) *sidecar {
	t.Helper()
	return f.sidecarWith(t, nil, env...)
}

// sidecarWith is sidecar with other lines in the place of some.
func (f *feedServer) sidecarWith(t *testing.T, lines map[string]string, env ...string) *sidecar {
	t.Helper()
	text, err := os.ReadFile(f.file())
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for line, other := range lines {
		if !strings.Contains(changed, line+"\n") {
			t.Fatalf("%s has no line %s", f.file(), line)
		}
		changed = strings.ReplaceAll(changed, line+"\n", other+"\n")
	}
	for address, scheme := range f.from {
		if !strings.Contains(changed, address) {
			t.Fatalf("%s does not name %s", f.file(), address)
		}
		changed = strings.ReplaceAll(changed, address, scheme+"://"+f.addr)
	}
	file := filepath.Join(t.TempDir(), "recipe.env")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &sidecar{addr: freeAddr(t), admin: freeAddr(t)}
	s.env = append([]string{"SSE_LISTEN=" + s.addr, "SSE_ADMIN_LISTEN=" + s.admin, "SSE_LOG_LEVEL=debug", "GORACE=exitcode=66"}, env...)
	s.start(t, "-env-file", file)
	return s
}

// events asks the sidecar for the recipe's events.
func (f *feedServer) events(t *testing.T, s *sidecar) *stream {
	t.Helper()
	return ask(t, s.addr, "HTTP/1.0", f.path, "retry: ")
}

// next waits for an event with this name ("" none) and data, and forgets what came before it.
func (s *stream) next(t *testing.T, name, data string) {
	t.Helper()
	text := "data: " + data + "\n"
	if name != "" {
		text = "event: " + name + "\n" + text
	}
	s.until(t, text)
	_, rest, _ := strings.Cut(s.got.String(), text)
	s.got.Reset()
	s.got.WriteString(rest)
}

func (s *stream) gap(t *testing.T) { t.Helper(); s.next(t, "stream.gap", gapEvent) }

// whole is next, and fails when a gap was said before it.
func (s *stream) whole(t *testing.T, name, data string) {
	t.Helper()
	s.until(t, "data: "+data+"\n")
	before, _, _ := strings.Cut(s.got.String(), "data: "+data+"\n")
	if strings.Contains(before, "stream.gap") {
		t.Errorf("a gap before %s %s: %q", name, data, before)
	}
	s.next(t, name, data)
}

// client runs the feed's official client.
func (f *feedServer) client(t *testing.T, options string) *process {
	t.Helper()
	return launch(t, nil, "node", filepath.Join("servers", "feedclient.mjs"), f.server, f.addr, options)
}

// lines waits for n lines of the client that are text.
func (p *process) lines(t *testing.T, n int, text string) {
	t.Helper()
	eventually(t, "the official client to show "+text, func() bool {
		return strings.Count("\n"+p.stdout.String(), "\n"+text+"\n") >= n
	})
}

// holds waits for the client to show a line that holds text, which may stand in a JSON string.
func (p *process) holds(t *testing.T, text string) {
	t.Helper()
	escaped, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the official client to show "+text, func() bool {
		return strings.Contains(p.stdout.String(), text) || strings.Contains(p.stdout.String(), string(escaped[1:len(escaped)-1]))
	})
}

func (p *process) killed() {
	syscall.Kill(-p.Process.Pid, syscall.SIGKILL) // with its children
	<-p.ended
}

// refuses holds that a first client is told status.
func (f *feedServer) refuses(t *testing.T, want int, env ...string) {
	t.Helper()
	s := f.sidecar(t, env...)
	if got := status("http://" + s.addr + f.path); got != want {
		t.Errorf("%s answers %d, want %d", f.name, got, want)
	}
}

// beats holds that n keepalives pass on one connection, and that without them the server gives it up. A machine that is
// busy with something else may cost a connection; then the count begins anew.
func (f *feedServer) beats(t *testing.T, n int, without ...string) {
	t.Helper()
	since := f.seen(t)
	eventually(t, "keepalives on one connection", func() bool {
		now := f.seen(t)
		if len(now.Dials) != len(since.Dials) {
			since = now
		}
		return now.Beats >= since.Beats+n
	})
	if without == nil {
		return
	}
	s := f.sidecar(t, without...)
	f.events(t, s)
	eventually(t, "the server to give up who sends no keepalive", func() bool { return f.seen(t).Kicked > since.Kicked })
	s.killed()
}

func TestRecipeHomeAssistant(t *testing.T) {
	t.Parallel()
	const token = "YOUR-LONG-LIVED-TOKEN"
	f := startFeedServer(t, "homeassistant", `{"token":"`+token+`"}`)
	page := f.client(t, `{"token":"`+token+`"}`)
	page.lines(t, 1, `"ready"`)
	wrong := f.client(t, `{"token":"wrong"}`)
	wrong.lines(t, 1, `"invalid auth"`)
	wrong.killed()
	s := f.sidecar(t, "SSE_ROUTE_HOME_PING_EVERY=1s")
	events := f.events(t, s)
	on := fields{"events": []fields{{"event_type": "other", "data": 0}, {"event_type": "state_changed", "data": fields{"entity_id": "light.a", "n": 1}}, {"event_type": "state_changed", "data": fields{"n": 2}}}}
	f.reach(t, 2, "fire", on)
	events.next(t, "state_changed", `{"entity_id":"light.a","n":1}`)
	events.next(t, "state_changed", `{"n":2}`)
	page.lines(t, 1, `{"event":"state_changed","data":{"entity_id":"light.a","n":1}}`)
	page.lines(t, 1, `{"event":"state_changed","data":{"n":2}}`)
	page.killed()

	f.restart(t, `{"token":"`+token+`","silence":2500}`)
	events.gap(t)
	f.reach(t, 1, "fire", on)
	events.next(t, "state_changed", `{"n":2}`)
	f.beats(t, 4, "SSE_ROUTE_HOME_PING_EVERY=0")

	f.restart(t, `{"token":"another"}`)
	events.until(t, "event: stream.refused\n")
	f.refuses(t, 403)
	f.restart(t, `{"token":"`+token+`","forbidden":"state_changed"}`)
	f.refuses(t, 403)
}

func TestRecipeDiscord(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "discord", `{"token":"YOUR-BOT-TOKEN","interval":1000}`)
	page := f.client(t, `{"token":"YOUR-BOT-TOKEN"}`)
	page.lines(t, 1, `"ready"`)
	page.lines(t, 2, `"beat"`)
	wrong := f.client(t, `{"token":"wrong"}`)
	wrong.lines(t, 1, `{"error":"Authentication failed"}`)
	wrong.killed()
	s := f.sidecar(t)
	events := f.events(t, s)
	f.reach(t, 2, "dispatch", fields{"t": "MESSAGE_CREATE", "d": fields{"content": "one", "id": "9007199254740993"}})
	events.next(t, "MESSAGE_CREATE", `{"content":"one","id":"9007199254740993"}`)
	page.lines(t, 1, `{"event":"MESSAGE_CREATE","data":{"content":"one","id":"9007199254740993"}}`)

	// Cut: both resume, and get what was said meanwhile.
	f.do(t, "cut", nil, nil)
	f.do(t, "dispatch", fields{"t": "MESSAGE_CREATE", "d": "missed"}, nil)
	events.whole(t, "MESSAGE_CREATE", `missed`)
	page.lines(t, 1, `{"event":"MESSAGE_CREATE","data":"missed"}`)
	page.lines(t, 1, `"resumed"`)
	f.do(t, "reconnect", nil, nil)
	f.do(t, "dispatch", fields{"t": "MESSAGE_CREATE", "d": "moved"}, nil)
	events.whole(t, "MESSAGE_CREATE", `moved`)
	page.lines(t, 2, `"resumed"`)
	page.killed()
	last := f.seen(t).Dials
	if d := last[len(last)-1]; !strings.HasPrefix(d.Host, "localhost:") || d.URL != "/?v=10&encoding=json" {
		t.Errorf("resumed at %+v", d)
	}

	// A beat asked for, and one that is never acknowledged.
	f.reach(t, 1, "beat", nil)
	f.beats(t, 4)
	f.do(t, "acknowledge", fields{"yes": false}, nil)
	eventually(t, "a connection in place of the dead one", func() bool { return len(f.seen(t).Dials) > len(last) })
	f.do(t, "acknowledge", fields{"yes": true}, nil)
	f.do(t, "dispatch", fields{"t": "MESSAGE_CREATE", "d": "alive"}, nil)
	events.whole(t, "MESSAGE_CREATE", `alive`)

}

// Sessions that are gone leave a gap, and a new one begins.
func TestRecipeDiscordWithNewSessions(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "discord", `{"token":"YOUR-BOT-TOKEN","interval":1000}`)
	events := f.events(t, f.sidecar(t))
	f.reach(t, 1, "dispatch", fields{"t": "MESSAGE_CREATE", "d": "first"})
	events.next(t, "MESSAGE_CREATE", "first")
	for i, end := range []string{"forget", "invalidate", "expire"} {
		data := string(rune('a' + i))
		f.reach(t, 1, end, nil)
		events.gap(t)
		f.reach(t, 1, "dispatch", fields{"t": "MESSAGE_CREATE", "d": data})
		events.next(t, "MESSAGE_CREATE", data)
	}

	f.restart(t, `{"token":"another","interval":1000}`)
	events.until(t, "event: stream.refused\n")
	f.refuses(t, 401)
}

func TestRecipeMattermost(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "mattermost", `{"token":"YOUR-TOKEN"}`)
	page := f.client(t, `{"token":"YOUR-TOKEN"}`)
	page.holds(t, `"event":"hello"`)
	s := f.sidecar(t, "SSE_ROUTE_CHAT_PING_EVERY=1s")
	events := f.events(t, s)
	f.reach(t, 2, "post", fields{"id": "p1", "message": "one"})
	post := func(id, message string) string {
		return `{"channel_type":"O","post":{"id":"` + id + `","message":"` + message + `"},"sender_name":"@a"}`
	}
	events.next(t, "posted", post("p1", "one"))
	page.holds(t, `{"id":"p1","message":"one"}`)

	// Cut: both resume, and get what was said meanwhile.
	f.do(t, "cut", nil, nil)
	f.do(t, "post", fields{"id": "p2", "message": "missed"}, nil)
	events.whole(t, "posted", post("p2", "missed"))
	page.lines(t, 1, `"reconnected"`)
	page.holds(t, `{"id":"p2","message":"missed"}`)
	f.do(t, "post", fields{"id": "p3", "message": "next"}, nil)
	events.whole(t, "posted", post("p3", "next"))
	page.holds(t, `{"id":"p3","message":"next"}`)

	// A server that knows nothing of them.
	f.do(t, "forget", nil, nil)
	events.gap(t)
	page.lines(t, 1, `"missed"`)
	f.reach(t, 2, "post", fields{"id": "p4", "message": "new"})
	events.next(t, "posted", post("p4", "new"))
	page.killed()

	f.restart(t, `{"token":"YOUR-TOKEN","silence":2500}`)
	events.gap(t)
	f.reach(t, 1, "post", fields{"id": "p5", "message": "back"})
	events.next(t, "posted", post("p5", "back"))
	f.beats(t, 4, "SSE_ROUTE_CHAT_PING_EVERY=0")

	f.restart(t, `{"token":"another"}`)
	events.until(t, "event: stream.refused\n")
	f.refuses(t, 403)
}

func TestRecipeSlackSocketMode(t *testing.T) {
	t.Parallel()
	const token = "YOUR-APP-LEVEL-TOKEN"
	f := startFeedServer(t, "slack-socket-mode", `{"token":"`+token+`","ping":50}`)
	s := f.sidecar(t)
	events := f.events(t, s)
	envelope := func(id string) string {
		return `{"api_app_id":"A1","event":{"text":"hi","ts":"1.1","type":"message"},"event_id":"Ev` + id + `","team_id":"T1","token":"verification","type":"event_callback"}`
	}
	send := func(id string) {
		f.reach(t, 1, "send", fields{"envelope_id": id, "text": "hi"})
		events.next(t, "events_api", envelope(id))
		eventually(t, "the acknowledgement", func() bool { return strings.Contains(strings.Join(f.seen(t).Acked, " "), id) })
	}
	send("e1")
	f.beats(t, 10)
	f.reach(t, 1, "refresh", nil)
	events.gap(t)
	send("e2")
	f.do(t, "cut", nil, nil)
	events.gap(t)
	send("e3")
	seen := f.seen(t)
	tickets := map[string]bool{}
	for _, dial := range seen.Dials {
		tickets[dial.URL] = true
		if dial.Authorization != "" || !strings.HasPrefix(dial.Host, "localhost:") {
			t.Errorf("the token goes where the ticket leads: %+v", dial)
		}
	}
	if len(tickets) != 3 || len(seen.Asked) != 3 || seen.Late > 0 || seen.Asked[2].Method != "POST" || seen.Asked[2].Authorization != "Bearer "+token {
		t.Errorf("%+v", seen)
	}

	// What may pass is tried again, what may not is refused.
	f.do(t, "refuse", fields{"error": "ratelimited"}, nil)
	f.do(t, "cut", nil, nil)
	events.gap(t)
	eventually(t, "another try", func() bool { return len(f.seen(t).Asked) >= 5 })
	f.do(t, "refuse", fields{"error": ""}, nil)
	send("e4")
	f.do(t, "refuse", fields{"error": "token_revoked"}, nil)
	f.do(t, "cut", nil, nil)
	events.until(t, "event: stream.refused\n")
	f.restart(t, `{"token":"another"}`)
	f.refuses(t, 401)
}

func TestRecipeKraken(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "kraken-v2", `{"heartbeat":50,"silence":2500}`)
	s := f.sidecar(t, "SSE_ROUTE_KRAKEN_PING_EVERY=1s")
	events := f.events(t, s)
	events.next(t, "snapshot", `{"bid":1,"last":1,"symbol":"BTC/USD","volume":0.5}`)
	events.next(t, "snapshot", `{"bid":1,"last":1,"symbol":"ETH/USD","volume":0.5}`)
	f.reach(t, 1, "tick", fields{"symbol": "ETH/USD", "last": 101.5})
	events.next(t, "update", `{"bid":100.5,"last":101.5,"symbol":"ETH/USD","volume":0.5}`)
	f.beats(t, 4, "SSE_ROUTE_KRAKEN_PING_EVERY=0")
	f.do(t, "cut", nil, nil)
	events.gap(t)
	events.next(t, "snapshot", `{"bid":1,"last":1,"symbol":"ETH/USD","volume":0.5}`)
	f.refuses(t, 403, "SSE_ROUTE_KRAKEN_HELLO=! .success == false\n"+`> {"method":"subscribe","params":{"channel":"ticker","symbol":["NONE/USD"]},"req_id":1}`+"\n< .success")
}

func TestRecipeCoinbase(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "coinbase", `{"heartbeat":50,"within":500}`)
	s := f.sidecar(t)
	events := f.events(t, s)
	tick := func(price string) {
		f.reach(t, 1, "tick", fields{"product_id": "BTC-USD", "price": price})
		events.until(t, `"price":"`+price+`"`)
		events.until(t, "event: BTC-USD\n")
	}
	tick("1.10")
	f.restart(t, `{"heartbeat":50,"within":500}`)
	events.gap(t)
	tick("2.20")
	// Who does not subscribe in time is closed, so that the opening is not through for want of a wait only.
	late := f.events(t, f.sidecar(t, "SSE_ROUTE_COINBASE_HELLO=! .type == \"error\""))
	late.gap(t)
	if f.seen(t).Kicked == 0 {
		t.Error("the server does not demand a subscription")
	}
	f.refuses(t, 403, "SSE_ROUTE_COINBASE_HELLO=! .type == \"error\"\n"+`> {"type":"subscribe","product_ids":["NONE-USD"],"channels":["ticker"]}`+"\n< .type == \"subscriptions\"")
}

func TestRecipeBinance(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "binance", `{"ping":50}`)
	s := f.sidecar(t)
	events := f.events(t, s)
	trade := func(p string) {
		f.reach(t, 1, "trade", fields{"stream": "btcusdt@trade", "p": p})
		events.next(t, "btcusdt@trade", `{"E":1672515782136,"e":"trade","p":"`+p+`","q":"1","s":"BTCUSDT","t":9007199254740}`)
	}
	trade("0.001")
	f.beats(t, 20)
	f.reach(t, 1, "shutdown", nil)
	events.gap(t)
	trade("0.002")
	f.do(t, "cut", nil, nil)
	events.gap(t)
	trade("0.003")
	f.refuses(t, 403, "SSE_ROUTE_BINANCE_HELLO=! .error or .code\n"+`> {"method":"SUBSCRIBE","params":["no name"],"id":1}`+"\n< .id == 1 and has(\"result\")")
}

func TestRecipePusher(t *testing.T) {
	t.Parallel()
	const options = `{"key":"YOUR-APP-KEY","activity":1,"mute":true}`
	f := startFeedServer(t, "pusher", options)
	page := f.client(t, `{"key":"YOUR-APP-KEY","activity":0.3,"channels":["orders","private-x"]}`)
	page.lines(t, 1, `{"subscribed":"orders"}`)
	page.lines(t, 1, `{"refused":"private-x","status":401}`)
	wrong := f.client(t, `{"key":"wrong","activity":1}`)
	wrong.holds(t, `"code":4001`)
	wrong.killed()
	s := f.sidecar(t)
	events := f.events(t, s)
	f.reach(t, 2, "trigger", fields{"channel": "orders", "event": "created", "data": fields{"id": 7, "note": "a\nb"}})
	events.next(t, "created", `{"id":7,"note":"a\nb"}`)
	page.lines(t, 1, `{"event":"created","data":{"id":7,"note":"a\nb"},"channel":"orders"}`)
	f.reach(t, 2, "raw", fields{"message": fields{"event": "plain", "channel": "orders", "data": "text"}})
	events.next(t, "plain", "text")
	page.killed()
	// The interval is the server's; without pings it gives the connection up, and it wants its own answered.
	f.beats(t, 4, "SSE_ROUTE_PUSHER_PING_EVERY=0")
	f.reach(t, 1, "ping", nil)
	eventually(t, "a pong", func() bool { return f.seen(t).Pongs > 0 })
	f.restart(t, options)
	events.gap(t)
	f.reach(t, 1, "trigger", fields{"channel": "orders", "event": "created", "data": 8})
	events.next(t, "created", "8")
	f.restart(t, `{"key":"another"}`)
	events.until(t, "event: stream.refused\n")
	f.refuses(t, 403)
	f.restart(t, options)
	f.refuses(t, 403, "SSE_ROUTE_PUSHER_HELLO=! .event == \"pusher:subscription_error\"\n"+`> {"event":"pusher:subscribe","data":{"channel":"private-x","auth":"x"}}`+"\n< .event == \"pusher_internal:subscription_succeeded\"")
}

func TestRecipeHTX(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "htx", `{"ping":100}`)
	s := f.sidecar(t)
	events := f.events(t, s)
	tick := func(symbol, close string) {
		f.reach(t, 1, "tick", fields{"symbol": symbol, "close": close})
		events.next(t, symbol, `{"close":`+close+`,"count":9007199254740993}`)
	}
	tick("btcusdt", "52735.63")
	f.do(t, "damage", nil, nil)
	tick("ethusdt", "3000")
	if failed := metric(t, s, `sidestream_decode_failures_total{route="htx"}`); failed != 2 {
		t.Errorf("%v messages did not decode", failed)
	}
	f.beats(t, 10, "SSE_ROUTE_HTX_REPLY=select(.ping)|empty")
	f.do(t, "cut", nil, nil)
	events.gap(t)
	tick("btcusdt", "52736")
	f.refuses(t, 403, "SSE_ROUTE_HTX_HELLO=! .status == \"error\" and .id\n"+`> {"sub":"market.nonesuch.ticker","id":"x"}`+"\n< .subbed")
}

func TestRecipeEthereum(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "ethereum", `{"key":"YOUR-KEY","silence":2500}`)
	s := f.sidecar(t, "SSE_ROUTE_BLOCKS_PING_EVERY=1s")
	events := f.events(t, s)
	block := func(number, hash string) {
		f.reach(t, 1, "head", fields{"number": number, "hash": hash})
		events.next(t, "block", `{"number":"`+number+`","hash":"`+hash+`","parentHash":"0x00","timestamp":"0x6743f1a0","gasUsed":"0x1"}`)
		events.until(t, "id: "+hash+"\n")
	}
	block("0x10", "0xaa")
	f.beats(t, 4, "SSE_ROUTE_BLOCKS_PING_EVERY=0")
	f.do(t, "cut", nil, nil)
	events.gap(t)
	block("0x11", "0xbb")
	f.refuses(t, 400, `SSE_ROUTE_BLOCKS_SUBSCRIBE=eth_subscribe ["other"]`)
	f.restart(t, `{"key":"another"}`)
	events.until(t, "event: stream.refused\n")
	f.refuses(t, 401)
}
