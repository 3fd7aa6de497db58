package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/access"
	"sidestream/proxy/history"
	"sidestream/proxy/history/redis"
	"sidestream/proxy/redisconn"
	"sidestream/proxy/stream"
)

// files is a readFile over a map.
func files(m map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if text, ok := m[path]; ok {
			return []byte(text), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
}

// two routes, one of each kind, that are right.
var base = []string{
	"SSE_ROUTE_FEED_PATH=/feed", "SSE_ROUTE_FEED_FROM=ws://legacy/feed",
	"SSE_ROUTE_POLL_PATH=/poll", "SSE_ROUTE_POLL_FROM=http://legacy/poll",
}

func load(t *testing.T, environ ...string) *Config {
	t.Helper()
	c, err := Load(environ, files(nil))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var defaultSets = proxy.SetSettings{Heartbeat: 15 * time.Second, Retry: 3 * time.Second, Linger: 30 * time.Second, ReplayEvents: 1024, ReplayBytes: 4 << 20}

func TestDefaults(t *testing.T) {
	c := load(t, append(base, "HOME=/root", "SSE_LISTEN=", "SSE_ROUTE_FEED_HEARTBEAT=")...)
	routes := c.Routes
	c.Routes = nil
	want := &Config{Settings: proxy.Settings{MaxClients: 10000, MaxStreams: 10000, MaxHeader: 64 << 10, MaxReplay: 64 << 20, Drain: 10 * time.Second, Restart: 5 * time.Second, Doctor: true, MigrationDays: 7, Sets: defaultSets},
		Listen: ":8080", AdminListen: "127.0.0.1:9091", MaxValue: 16 << 10, LogLevel: slog.LevelInfo, LogFormat: "auto"}
	c.given = allGiven{} // see TestDiffSeesEverySetting
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if len(routes) != 2 {
		t.Fatalf("%d routes", len(routes))
	}
	for i, r := range routes {
		if r.Upstream == nil {
			t.Errorf("%s: not compiled", r.Name)
		}
		r.Upstream = nil
		want := &proxy.RouteSettings{Name: []string{"feed", "poll"}[i], Path: []string{"/feed", "/poll"}[i], Start: i,
			Heartbeat: 15 * time.Second, Retry: 3 * time.Second, ReplayEvents: 1024, ReplayBytes: 4 << 20, Linger: 30 * time.Second, RefuseAfter: 30 * time.Second}
		if !reflect.DeepEqual(r, want) {
			t.Errorf("got  %+v\nwant %+v", r, want)
		}
	}
}

func TestGlobals(t *testing.T) {
	c := load(t, "SSE_LISTEN=127.0.0.1:80", "SSE_ADMIN_LISTEN=off", "SSE_UPSTREAM=http://legacy:3000/base/", "SSE_MAX_CLIENTS=off",
		"SSE_MAX_STREAMS=7", "SSE_MAX_VALUE=2KiB", "SSE_DRAIN=0", "SSE_MAX_HEADER=9KiB", "SSE_MAX_CLIENTS_PER_IP=5", "SSE_MAX_REPLAY=3MiB", "SSE_TRUSTED_PROXIES=10.1.2.3/8, fd00::1,10.0.0.0/8", "SSE_RESTART=1m", "SSE_WRITERS=goroutine", "SSE_DOCTOR=off", "SSE_MIGRATION_DAYS=30", "SSE_SUNSET=/ws=2027-03-01, /jobs/{id}/ws = 2027-03-01T10:00:00+01:00", "SSE_LOG_LEVEL=warn", "SSE_LOG_FORMAT=json",
		"SSE_CORS_ORIGINS=https://App.Example.com, http://localhost:5173,https://a.com:443 ,https://a.com,")
	if c.Upstream == nil || c.Upstream.String() != "http://legacy:3000/base/" {
		t.Errorf("upstream %v", c.Upstream)
	}
	c.Upstream = nil
	c.Sunsets[1].At = c.Sunsets[1].At.UTC()
	want := &Config{Settings: proxy.Settings{Sets: defaultSets, MaxStreams: 7, MaxHeader: 9 << 10, MaxPerAddress: 5, MaxReplay: 3 << 20, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")}, Restart: time.Minute, Goroutines: true,
		MigrationDays: 30, Sunsets: []proxy.Sunset{{Path: "/ws", At: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)}, {Path: "/jobs/{id}/ws", At: time.Date(2027, 3, 1, 9, 0, 0, 0, time.UTC)}}, CORSOrigins: []string{"https://app.example.com", "http://localhost:5173", "https://a.com"}},
		Listen: "127.0.0.1:80", MaxValue: 2 << 10, LogLevel: slog.LevelWarn, LogFormat: "json"}
	c.given = allGiven{}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestRouteOverGlobalOverDefault(t *testing.T) {
	c := load(t, append(base, "SSE_HEARTBEAT=5s", "SSE_ROUTE_FEED_HEARTBEAT=off", "SSE_START=all", "SSE_ROUTE_FEED_START=25",
		"SSE_RETRY=1s", "SSE_REPLAY_EVENTS=9", "SSE_REPLAY_BYTES=64KiB", "SSE_REPLAY_AGE=1h", "SSE_LINGER=3s", "SSE_MAX_AGE=20m",
		"SSE_ROUTE_FEED_MAX_AGE=0", "SSE_ROUTE_FEED_MAX_CLIENTS=3", "SSE_ROUTE_FEED_MAX_STREAMS=2", "SSE_ROUTE_POLL_EAGER=true",
		// Global settings of one kind of route simply do not apply to the other.
		"SSE_IDLE=1m", "SSE_EVERY=0", "SSE_TIMEOUT=1s", "SSE_MAX_MESSAGE=2MiB")...)
	feed, poll := c.Routes[0], c.Routes[1]
	feed.Upstream, poll.Upstream = nil, nil
	wantFeed := &proxy.RouteSettings{Name: "feed", Path: "/feed", Start: 25, Retry: time.Second, ReplayEvents: 9, ReplayBytes: 64 << 10,
		ReplayAge: time.Hour, Linger: 3 * time.Second, RefuseAfter: 30 * time.Second, MaxClients: 3, MaxStreams: 2}
	wantPoll := &proxy.RouteSettings{Name: "poll", Path: "/poll", Start: stream.StartAll, Heartbeat: 5 * time.Second, Retry: time.Second, ReplayEvents: 9,
		ReplayBytes: 64 << 10, ReplayAge: time.Hour, Linger: 3 * time.Second, RefuseAfter: 30 * time.Second, MaxAge: 20 * time.Minute, Eager: true}
	if !reflect.DeepEqual(feed, wantFeed) || !reflect.DeepEqual(poll, wantPoll) {
		t.Errorf("got  %+v\n     %+v\nwant %+v\n     %+v", feed, poll, wantFeed, wantPoll)
	}
}

func TestTunnel(t *testing.T) {
	for _, off := range []string{"", "off", "0", " , "} {
		if c := load(t, "SSE_UPSTREAM=http://legacy", "SSE_TUNNEL="+off); c.Tunnel != nil {
			t.Errorf("%q: %+v", off, c.Tunnel)
		}
	}
	c := load(t, "SSE_UPSTREAM=http://legacy", "SSE_TUNNEL=/socket, /cable/,/socket", "SSE_HEARTBEAT=1s", "SSE_COALESCE=2ms", "SSE_RETRY=3ms",
		"SSE_LINGER=4s", "SSE_REPLAY_BYTES=5KiB", "SSE_MAX_MESSAGE=6KiB")
	want := &proxy.TunnelSettings{Prefixes: []string{"/socket", "/cable/"}, Heartbeat: time.Second, Coalesce: 2 * time.Millisecond, Retry: 3 * time.Millisecond,
		Linger: 4 * time.Second, ReplayBytes: 5 << 10, MaxMessage: 6 << 10}
	if !reflect.DeepEqual(c.Tunnel, want) {
		t.Errorf("got  %+v\nwant %+v", c.Tunnel, want)
	}
}

func TestSendAndScope(t *testing.T) {
	c := load(t, append(base, "SSE_ROUTE_FEED_SEND=true", "SSE_ROUTE_FEED_SCOPE=session", "SSE_ROUTE_POLL_SEND=off", "SSE_ROUTE_POLL_SCOPE=request")...)
	if feed, poll := c.Routes[0], c.Routes[1]; !feed.Send || feed.Upstream.Shared() || feed.Start != stream.StartAll || poll.Send || !poll.Upstream.Shared() || poll.Start != 1 {
		t.Errorf("%+v %+v", feed, poll)
	}
	if c := load(t, append(base, "SSE_ROUTE_FEED_SCOPE=session", "SSE_ROUTE_FEED_START=live")...); c.Routes[0].Start != 0 {
		t.Errorf("START is %d", c.Routes[0].Start)
	}
}

func TestStart(t *testing.T) {
	for text, want := range map[string]int{"live": 0, "latest": 1, "all": stream.StartAll, "0": 0, "500": 500} {
		if c := load(t, append(base, "SSE_START="+text)...); c.Routes[0].Start != want || c.Routes[1].Start != want {
			t.Errorf("%s: %d and %d, want %d", text, c.Routes[0].Start, c.Routes[1].Start, want)
		}
	}
}

// Kubernetes injects these for Services called sse, sse-x and sse-route-foo.
func TestInjectedNamesAreIgnored(t *testing.T) {
	var environ []string
	for _, service := range []string{"SSE", "SSE_X", "SSE_ROUTE_FOO", "SSE_ROUTE_PORT"} {
		for _, suffix := range []string{"_SERVICE_HOST=10.0.0.1", "_SERVICE_PORT=80", "_SERVICE_PORT_HTTP=80", "_PORT=tcp://10.0.0.1:80",
			"_PORT_80_TCP=tcp://10.0.0.1:80", "_PORT_80_TCP_PROTO=tcp", "_PORT_80_TCP_PORT=80", "_PORT_80_TCP_ADDR=10.0.0.1",
			"_PORT_53_UDP=udp://10.0.0.1:53", "_PORT_53_UDP_ADDR=10.0.0.1"} {
			environ = append(environ, service+suffix)
		}
	}
	if c := load(t, append(base, environ...)...); len(c.Routes) != 2 {
		t.Errorf("%d routes", len(c.Routes))
	}
}

func TestFiles(t *testing.T) {
	read := files(map[string]string{"h": "X-A: b\r\nX-C: d\n\n", "p": "/file\r\n", "f": "ws://legacy/feed\n", "r": "2s", "e": "\n"})
	var environ = []string{"SSE_ROUTE_A_PATH_FILE=p", "SSE_ROUTE_A_FROM_FILE=f", "SSE_RETRY_FILE=r", "SSE_LINGER_FILE=e", "SSE_LINGER="}
	c, err := Load(environ, read)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Routes[0]; r.Path != "/file" || r.Retry != 2*time.Second || r.Linger != 30*time.Second {
		t.Errorf("%+v", r)
	}
	l := loader{readFile: read}
	if v := l.contents(value{text: "h"}); v.text != "X-A: b\r\nX-C: d\n" {
		t.Errorf("%q: exactly one newline is to go", v.text)
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := ReadFile(path); err == nil || len(text) > 0 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, err := ReadFile(path + "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	_, err := Load([]string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM_FILE=" + path}, ReadFile)
	if err == nil || err.Error() != "SSE_ROUTE_A_FROM_FILE: cannot be read: it is larger than 1 MiB; give the path of a readable file" {
		t.Errorf("error %v", err)
	}
}

// Every variable that the documentation names is known, and every default is one that the program takes.
func TestVariables(t *testing.T) {
	for _, v := range Variables() {
		full := v.Name
		if v.Route {
			full = "SSE_ROUTE_A_" + v.Name
		}
		if _, known := parseName(full); !known || v.Meaning == "" || v.Default == "" || !v.Route && !v.Global {
			t.Errorf("%+v", v)
		}
		if _, known := parseName("SSE_" + v.Name); v.Route && known != v.Global && v.Name != "MAX_CLIENTS" && v.Name != "MAX_STREAMS" && v.Name != "HISTORY" {
			t.Errorf("%+v: global is %v", v, known)
		}
	}
	var shared []string
	for _, f := range routeFields {
		if f.global {
			shared = append(shared, f.env)
		}
	}
	slices.Sort(shared)
	want := "AUTH AUTH_CLAIMS AUTH_HEADERS AUTH_URL COALESCE COMPRESS EVERY HEARTBEAT IDLE JWT_AUDIENCE JWT_FROM JWT_ISSUER JWT_KEYS LINGER MAX_AGE MAX_MESSAGE REFUSE_AFTER REPLAY_AGE REPLAY_BYTES REPLAY_EVENTS RETRY REVALIDATE START TIMEOUT UPSTREAM_CA UPSTREAM_CERT UPSTREAM_KEY UPSTREAM_NAME"
	if strings.Join(shared, " ") != want {
		t.Errorf("also global: %v", shared)
	}
}

func TestBoundsInTags(t *testing.T) {
	check := func(fields []field, typ reflect.Type) {
		for _, f := range fields {
			field, _ := typ.FieldByName(f.goName)
			v := reflect.New(field.Type).Elem()
			if f.max != "" && f.bound(f.min, v.Type()) >= f.bound(f.max, v.Type()) {
				t.Errorf("%s: from %q to %q", f.env, f.min, f.max)
			}
			if f.max != "" && v.Kind() == reflect.Int && f.bound(f.max, v.Type()) > math.MaxInt32 { // in the binaries for armv7 it is an int's most
				t.Errorf("%s: up to %q, which an int of 32 bits does not hold", f.env, f.max)
			}
		}
	}
	check(globalFields, reflect.TypeFor[globals]())
	check(routeFields, reflect.TypeFor[settings]())
}

// Settings that stand in files are read again.
func TestReread(t *testing.T) {
	files := map[string]string{"/run/headers": "Authorization: Bearer one\n", "/run/body": "a"}
	read := func(path string) ([]byte, error) {
		text, ok := files[path]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(text), nil
	}
	environ := []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=http://legacy/a", "SSE_ROUTE_A_HEADERS_FILE=/run/headers", "SSE_ROUTE_A_BODY_FILE=/run/body",
		"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=http://legacy/b"}
	l := loader{readFile: read}
	global, routes := l.read(environ)
	s := parse[settings](&l, routeFields, routes["A"])
	if l.reread(routes["B"], s) != nil {
		t.Error("a route without files is read again")
	}
	reread := l.reread(routes["A"], s)
	if changed, err := reread(); changed != nil || err != nil {
		t.Errorf("nothing has changed: %v, %v", changed, err)
	}
	files["/run/headers"] = "Authorization: Bearer two"
	changed, err := reread()
	if err != nil || changed == nil || changed.Headers != "Authorization: Bearer two" || changed.Body != "a" || changed.From != "http://legacy/a" {
		t.Errorf("%+v, %v", changed, err)
	}
	if changed, err := reread(); changed != nil || err != nil {
		t.Errorf("nothing has changed since: %v, %v", changed, err)
	}
	delete(files, "/run/headers")
	if changed, err := reread(); changed != nil || err == nil || !strings.Contains(err.Error(), "SSE_ROUTE_A_HEADERS_FILE") || strings.Contains(err.Error(), "/run") {
		t.Errorf("a file that is gone: %v, %v", changed, err)
	}
	files["/run/headers"] = "Authorization: Bearer three"
	if changed, err := reread(); err != nil || changed == nil || changed.Headers != "Authorization: Bearer three" {
		t.Errorf("%+v, %v", changed, err)
	}
	if len(global) != 0 || l.problems.err() != nil {
		t.Error(global, l.problems.err())
	}
}

func TestCompress(t *testing.T) {
	c := load(t, append(base, "SSE_UPSTREAM=http://legacy", "SSE_TUNNEL=/", "SSE_COMPRESS=gzip", "SSE_ROUTE_FEED_COMPRESS=off")...)
	if c.Routes[0].Compress || !c.Routes[1].Compress || !c.Tunnel.Compress || !c.Sets.Compress {
		t.Errorf("%v %v %v %v", c.Routes[0].Compress, c.Routes[1].Compress, c.Tunnel.Compress, c.Sets.Compress)
	}
	if c = load(t, base...); c.Routes[0].Compress || c.Sets.Compress {
		t.Error("it is on by itself")
	}
	if _, err := Load(append(base[:len(base):len(base)], "SSE_COMPRESS=brotli"), ReadFile); err == nil || !strings.Contains(err.Error(), `SSE_COMPRESS: "brotli" is none of off, gzip; write`) {
		t.Error(err)
	}
}

func TestHistory(t *testing.T) {
	if c := load(t, base...); c.History != nil || c.Routes[0].Forgets {
		t.Errorf("%+v", c.History)
	}
	for text, sync := range map[string]time.Duration{"": time.Second, "0": 0, "off": -1, "250ms": 250 * time.Millisecond} {
		c := load(t, append(base, "SSE_HISTORY=file:/var/lib/sidestream/", "SSE_HISTORY_SYNC="+text, "SSE_HISTORY_TTL=2h", "SSE_ROUTE_FEED_HISTORY=memory")...)
		if want := (history.Settings{Dir: "/var/lib/sidestream", Sync: sync, TTL: 2 * time.Hour}); c.History != want || !c.Routes[0].Forgets || c.Routes[1].Forgets {
			t.Errorf("%q: %+v", text, c.History)
		}
	}
	c := load(t, append(base, "SSE_HISTORY=rediss+sentinel://u:p@h1,h2:1/main/3", "SSE_HISTORY_PREFIX=app")...)
	want := redis.Settings{Address: redisconn.Address{Addresses: []string{"h1:26379", "h2:1"}, Master: "main", TLS: true, User: "u", Password: "p", DB: 3}, Prefix: "app", TTL: time.Hour}
	if !reflect.DeepEqual(c.History, history.Opener(want)) || strings.Contains(c.History.String(), "u:p") {
		t.Errorf("%+v", c.History)
	}
	for value, want := range map[string]string{
		"SSE_HISTORY_PREFIX={x}\nSSE_HISTORY=redis://h": `SSE_HISTORY_PREFIX: holds blanks, braces`,
		"SSE_HISTORY=file:data":                         `SSE_HISTORY: "file:data" names no absolute path; write memory, file: and the path of a folder, such as file:/var/lib/sidestream, or the URL of a Redis, such as redis://redis:6379`,
		"SSE_HISTORY=/var/lib":                          `SSE_HISTORY: "/var/lib" is neither memory nor a folder; write memory, file: and the path of a folder, such as file:/var/lib/sidestream, or the URL of a Redis, such as redis://redis:6379`,
		"SSE_HISTORY=redis://u:hiddenpass@":             `SSE_HISTORY: it names no host, or a port that is none; write HOST or HOST:PORT`,
		"SSE_HISTORY=redis+sentinel://h1,h2":            `SSE_HISTORY: it does not name the master; write redis+sentinel://HOST,HOST/MASTER`,
		"SSE_HISTORY=http://u:hiddenpass@h":             `SSE_HISTORY: is the URL of no Redis; write memory, file: and the path of a folder, such as file:/var/lib/sidestream, or the URL of a Redis, such as redis://redis:6379`,
		"SSE_HISTORY_SYNC=2h":                           `SSE_HISTORY_SYNC: "2h" is out of bounds; write up to 1h, 0 for each event, or off for never`,
		"SSE_HISTORY_TTL=0":                             `SSE_HISTORY_TTL: "0" is out of bounds; write 1s to 8760h`,
		"SSE_ROUTE_FEED_HISTORY=file:/var/lib/one":      `SSE_ROUTE_FEED_HISTORY: "file:/var/lib/one" is none of memory; write memory`,
	} {
		_, err := Load(append(base[:len(base):len(base)], strings.Split(value, "\n")...), ReadFile)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
}

// Every setting of a route gets to what uses it.
func TestSettingsArrive(t *testing.T) {
	words := map[string]string{"Scope": "session", "History": "memory", "PingEvery": "5s", "Path": "/{x}", "JWTKeys": "secret:x", "Compress": "gzip"}
	var l loader
	for i := range reflect.TypeFor[settings]().NumField() {
		var given settings
		name := reflect.TypeFor[settings]().Field(i).Name
		switch v := reflect.ValueOf(&given).Elem().Field(i); v.Kind() {
		case reflect.String:
			v.SetString(cmp.Or(words[name], "x"))
		case reflect.Slice:
			v.Set(reflect.ValueOf(list{cmp.Or(map[string]string{"Auth": "jwt", "JWTFrom": "query:x"}[name], "x")}))
		case reflect.Bool:
			v.SetBool(true)
		default:
			v.SetInt(7)
		}
		if trusting(given) == trusting(settings{}) && reflect.DeepEqual(l.admitting(given), l.admitting(settings{})) && reflect.DeepEqual(l.source(given), l.source(settings{})) && reflect.DeepEqual(routeSettings("a", given), routeSettings("a", settings{})) {
			t.Errorf("%s is read and then forgotten", name)
		}
	}
}

// trusting is what TLS with upstreams is made of s, where no file can be read.
func trusting(s settings) string {
	l := loader{readFile: files(nil)}
	t := l.trust("A", values{}, s, "https://legacy")
	return fmt.Sprint(t != nil, l.problems)
}

// admitting is what AUTH is made of s, with both methods unless s says which.
func (l *loader) admitting(s settings) access.Settings {
	if s.Auth == nil {
		s.Auth = list{"forward", "jwt"}
	}
	a := *l.access("A", values{}, values{}, s)
	a.Kind, a.Keys.Reread = nil, nil // functions are never equal
	return a
}

// check shows what messages are packed in.
// A shared subscription of clients with streams of their own is divided among these.
func TestCheckDoubtsSharedSubscriptions(t *testing.T) {
	const path, doubt = "SSE_ROUTE_M_PATH=/m", "  doubt   SUBSCRIBE: $"
	for _, c := range []struct {
		settings string
		want     bool
	}{
		{"SUBSCRIBE=$share/g/a 1", false},
		{"SUBSCRIBE=b 1\n$share/g/{query.a} 1", true},
		{"SUBSCRIBE=$queue/a|SCOPE=session", true},
		{"SUBSCRIBE=$share/g/a|FORWARD=Cookie", true},
		{"SUBSCRIBE={query.a}", false},
		{`SUBSCRIBE=$share/g/a|CONNECT={"username":"{query.user}"}`, true},
	} {
		env := []string{path, "SSE_ROUTE_M_FROM=ws://h/mqtt", "SSE_ROUTE_M_PROTOCOL=mqtt"}
		for setting := range strings.SplitSeq(c.settings, "|") {
			env = append(env, "SSE_ROUTE_M_"+setting)
		}
		var out strings.Builder
		if err := load(t, env...).Check(&out); err != nil || strings.Contains(out.String(), doubt) != c.want {
			t.Errorf("%s: %v\n%s", c.settings, err, &out)
		}
	}
}

func TestCheckShowsDecode(t *testing.T) {
	for setting, want := range map[string]string{"SSE_ROUTE_FEED_DECODE=zlib, msgpack": "  speaks  raw\n  decodes zlib,msgpack\n", "SSE_ROUTE_FEED_DECODE=": "  speaks  raw\n\nroute poll"} {
		var out strings.Builder
		if err := load(t, append(base[:len(base):len(base)], setting)...).Check(&out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v\n%s", setting, err, &out)
		}
	}
}
