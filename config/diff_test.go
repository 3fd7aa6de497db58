package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/e2e/authority"
	"sidestream/proxy"
	"sidestream/proxy/access"
)

// names are the ways in which routes differ, as name:how.
func (d Diff) ways() string {
	var all []string
	for _, rt := range d.Routes {
		all = append(all, rt.Name+":"+rt.How)
	}
	return strings.Join(all, " ")
}

// Every global variable has a word on reloads.
func TestEveryGlobalHasAReload(t *testing.T) {
	for _, f := range globalFields {
		if reloadShown[f.reload] == "" {
			t.Errorf("%s%s has no reload that is one of yes, routes, restart", prefix, f.env)
		}
	}
	for _, f := range routeFields {
		if f.reload != "" {
			t.Errorf("%s: the reload of a route's setting is that its route changes", f.env)
		}
	}
}

// set gives one field of a struct of settings another value than it has.
func set(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Slice:
		v.Set(reflect.ValueOf(list{"another"}))
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Uint32:
		v.SetUint(v.Uint() + 1)
	default:
		v.SetInt(v.Int() + 1)
	}
}

// Whatever setting of a route differs, its route has changed, and it alone.
func TestDiffSeesEverySetting(t *testing.T) {
	env := []string{"SSE_ROUTE_SOCKET_PATH=/s", "SSE_ROUTE_SOCKET_FROM=ws://legacy/", "SSE_ROUTE_POLL_PATH=/p", "SSE_ROUTE_POLL_FROM=http://legacy/",
		"SSE_ROUTE_STREAM_PATH=/t", "SSE_ROUTE_STREAM_FROM=http://legacy/", "SSE_ROUTE_STREAM_MODE=stream", "SSE_AUTH=jwt", "SSE_JWT_KEYS=secret:x"}
	routes := map[string]int{"": 3, "ws": 1, "poll": 2, "stream": 1, "ws stream": 2} // that a setting of this kind has an effect on
	for _, f := range routeFields {
		changed := 0
		for _, route := range []string{"socket", "poll", "stream"} {
			was, now := load(t, env...), load(t, env...)
			g := now.given.routes[route]
			set(reflect.ValueOf(&g.settings).Elem().FieldByName(f.goName))
			now.given.routes[route] = g
			for _, rt := range was.Diff(now).Routes {
				switch {
				case rt.How == Changed && rt.Name == route && slices.Equal(rt.Because, []string{variableOf(name{strings.ToUpper(route), f.env}, g.values, g.values)}):
					changed++
				case rt.How == Changed:
					t.Errorf("%s of %s: %+v", f.env, route, rt)
				}
			}
		}
		if changed == 0 || changed != routes[f.kind] {
			t.Errorf("%s: %d routes have changed, want %d", f.env, changed, routes[f.kind])
		}
	}
}

// On a route that reads a Redis, so do the settings that have an effect there.
func TestDiffSeesSettingsOfRedis(t *testing.T) {
	env := []string{"SSE_ROUTE_R_PATH=/r", "SSE_ROUTE_R_FROM=redis://redis?stream=a", "SSE_AUTH=jwt", "SSE_JWT_KEYS=secret:x"}
	for _, f := range routeFields {
		was, now := load(t, env...), load(t, env...)
		g := now.given.routes["r"]
		set(reflect.ValueOf(&g.settings).Elem().FieldByName(f.goName))
		now.given.routes["r"] = g
		if changed := was.Diff(now).Routes[0].How == Changed; changed != f.ofRedis() {
			t.Errorf("%s: changed %v, want %v", f.env, changed, f.ofRedis())
		}
	}
}

// reloadable are the fields of proxy.Settings that proxy.Proxy.Reload takes.
var reloadable = []string{"CORSOrigins", "MaxClients", "MaxStreams", "MaxPerAddress", "MaxReplay", "TrustedProxies", "Drain", "Restart", "Doctor", "Tickets", "MigrationDays", "Sunsets", "Routes"}

// Whatever global variable differs is seen, as what the table says of it.
func TestDiffSeesEveryGlobal(t *testing.T) {
	for _, f := range globalFields {
		was, now := load(t, base...), load(t, base...)
		set(reflect.ValueOf(&now.given.globals.settings).Elem().FieldByName(f.goName))
		d := was.Diff(now)
		if found := append(d.Restart, d.Global...); !slices.Equal(found, []string{prefix + f.env}) || (len(d.Restart) > 0) != (f.reload == reloadRestart) {
			t.Errorf("%s: %+v", f.env, d)
		}
	}
}

// What a reload is said to change, the proxy takes.
func TestReloadsArrive(t *testing.T) {
	key := strings.Repeat("ab", 32)
	values := map[string][2]string{"CORS_ORIGINS": {"http://a", "http://b"}, "MAX_CLIENTS": {"1", "2"}, "MAX_STREAMS": {"1", "2"}, "MAX_VALUE": {"1KiB", "2KiB"}, "DRAIN": {"1s", "2s"},
		"RESTART": {"1s", "2s"}, "MAX_CLIENTS_PER_IP": {"1", "2"}, "MAX_REPLAY": {"1MiB", "2MiB"}, "TRUSTED_PROXIES": {"10.0.0.1", "10.0.0.2"}, "TICKET_KEY": {key, key + "," + key},
		"TICKET_TTL": {"1s", "2s"}, "TICKET_REUSE": {"1h", "2h"}, "DOCTOR": {"on", "off"}, "MIGRATION_DAYS": {"1", "2"}, "SUNSET": {"/ws=2027-03-01", "/ws=2027-03-02"}, "LOG_LEVEL": {"info", "warn"}}
	for _, f := range globalFields {
		pair, known := values[f.env]
		if f.reload == reloadRestart {
			continue
		} else if !known {
			t.Errorf("%s is not tested", f.env)
		}
		one := func(value string) *Config {
			env := append(slices.Clone(base), prefix+f.env+"="+value)
			if f.env == "SUNSET" {
				env = append(env, "SSE_UPSTREAM=http://legacy:3000")
			}
			if f.env == "TICKET_TTL" || f.env == "TICKET_REUSE" {
				env = append(env, "SSE_TICKET_KEY="+key)
			}
			return load(t, env...)
		}
		was, now := one(pair[0]), one(pair[1])
		if f.reload == reloadYes {
			wantReloadable(t, f.env, was, now)
		}
		if changed := was.Diff(now).ways() == "feed:changed poll:changed"; changed != (f.reload == reloadRoutes) {
			t.Errorf("%s: %s", f.env, was.Diff(now).ways())
		}
	}
}

// wantReloadable holds that two configurations differ in what the proxy takes, or in the level of the log.
func wantReloadable(t *testing.T, env string, was, now *Config) {
	t.Helper()
	found := was.LogLevel != now.LogLevel
	a, b := reflect.ValueOf(was.Settings), reflect.ValueOf(now.Settings)
	for i := range a.NumField() {
		field := a.Type().Field(i).Name
		if field == "Routes" || reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			continue
		}
		if found = true; !slices.Contains(reloadable, field) {
			t.Errorf("%s changes %s, which Proxy.Reload does not take", env, field)
		}
	}
	if !found {
		t.Errorf("%s changes nothing that the proxy knows of", env)
	}
}

// The same said in other words is the same; so is what means nothing to a route.
func TestDiffComparesValues(t *testing.T) {
	was := load(t, append(slices.Clone(base), "SSE_HEARTBEAT=15s", "SSE_MAX_CLIENTS=1000", "SSE_DRAIN=off")...)
	same := load(t, append(slices.Clone(base), "SSE_ROUTE_FEED_HEARTBEAT=15000ms", "SSE_ROUTE_FEED_START=live", "SSE_ROUTE_POLL_START=latest", "SSE_ROUTE_POLL_TIMEOUT=10s",
		"SSE_MAX_CLIENTS= 1000", "SSE_DRAIN=0", "SSE_LISTEN=:8080", "SSE_JWT_ISSUER=nobody")...)
	if d := was.Diff(same); !d.Nothing() {
		t.Errorf("%+v", d)
	}
	polls := load(t, append(slices.Clone(base), "SSE_DRAIN=0", "SSE_MAX_CLIENTS=1000", "SSE_EVERY=7s")...)
	if d := was.Diff(polls); d.ways() != "feed:unchanged poll:changed" {
		t.Errorf("EVERY: %s", d.ways())
	}
	other := load(t, "SSE_ROUTE_POLL_PATH=/poll", "SSE_ROUTE_POLL_FROM=http://legacy/poll", "SSE_ROUTE_NEW_PATH=/new", "SSE_ROUTE_NEW_FROM=ws://legacy/")
	if d := was.Diff(other); d.ways() != "feed:removed new:added poll:unchanged" {
		t.Errorf("added and removed: %s", d.ways())
	}
}

// What stands in files that their owners look at has not changed with the text, unless more than the text has.
func TestDiffOfFiles(t *testing.T) {
	key := strings.Repeat("ab", 32)
	env := []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://legacy/", "SSE_ROUTE_A_HEADERS_FILE=/headers", "SSE_ROUTE_A_HELLO_FILE=/hello", "SSE_ROUTE_A_SELECT_FILE=/select",
		"SSE_ROUTE_A_HEARTBEAT_FILE=/beat", "SSE_ROUTE_A_AUTH=jwt", "SSE_ROUTE_A_JWT_KEYS_FILE=/keys", "SSE_TICKET_KEY_FILE=/tickets", "SSE_MAX_CLIENTS_FILE=/most", "SSE_LOG_FORMAT_FILE=/log"}
	texts := map[string]string{"/headers": "X-Token: one{header.x:}", "/hello": "> login one\n< .ok", "/select": ".a", "/beat": "7s", "/keys": "secret:one", "/tickets": key, "/most": "5", "/log": "json", "/other": "X-Token: one{header.x:}"}
	read := func(change map[string]string, env []string) *Config {
		t.Helper()
		all := maps.Clone(texts)
		maps.Copy(all, change)
		c, err := Load(env, files(all))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	was := read(nil, env)
	for change, want := range map[string]string{
		"/headers X-Token: two{header.x:}":            "a:unchanged []",
		"/headers X-Token: two{header.y:}":            "a:changed [SSE_ROUTE_A_HEADERS_FILE]",
		"/headers X-Token: one{header.x:}\nX-More: 1": "a:changed [SSE_ROUTE_A_HEADERS_FILE]",
		"/hello > login two\n< .ok":                   "a:unchanged []",
		"/hello > login one\n< .fine":                 "a:changed [SSE_ROUTE_A_HELLO_FILE]",
		"/select .b":                                  "a:changed [SSE_ROUTE_A_SELECT_FILE]",
		"/beat 8s":                                    "a:changed [SSE_ROUTE_A_HEARTBEAT_FILE]",
		"/keys secret:two":                            "a:unchanged []",
		"/keys https://login.example/keys":            "a:changed [SSE_ROUTE_A_JWT_KEYS_FILE]",
		"/tickets " + strings.Repeat("cd", 32):        "a:unchanged []",
		"/most 6":                                     "a:unchanged [SSE_MAX_CLIENTS_FILE]",
		"/log text":                                   "a:unchanged restart [SSE_LOG_FORMAT_FILE]",
	} {
		path, text, _ := strings.Cut(change, " ")
		d := was.Diff(read(map[string]string{path: text}, env))
		found := append(slices.Clone(d.Global), d.Routes[0].Because...)
		got := fmt.Sprint(d.ways(), " ", found)
		if len(d.Restart) > 0 {
			got = fmt.Sprint(d.ways(), " restart ", d.Restart)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", change, got, want)
		}
	}
	moved := slices.Clone(env)
	moved[2] = "SSE_ROUTE_A_HEADERS_FILE=/other" // nobody looks there yet
	if d := was.Diff(read(nil, moved)); d.ways() != "a:changed" {
		t.Errorf("another path: %s", d.ways())
	}
}

// Pages with tunnels keep the global values that they have of routes' settings.
func TestDiffOfTunnels(t *testing.T) {
	env := append(slices.Clone(base), "SSE_UPSTREAM=http://legacy", "SSE_TUNNEL=/")
	for setting, value := range map[string]string{"HEARTBEAT": "3s", "COALESCE": "1s", "COMPRESS": "gzip", "RETRY": "1s", "LINGER": "1m", "REPLAY_BYTES": "1MiB", "MAX_MESSAGE": "2MiB"} {
		d := load(t, env...).Diff(load(t, append(slices.Clone(env), prefix+setting+"="+value)...))
		if !slices.Equal(d.Restart, []string{prefix + setting}) {
			t.Errorf("%s: %+v", setting, d)
		}
	}
	if n := reflect.TypeFor[proxy.TunnelSettings]().NumField(); n != 8 {
		t.Errorf("TunnelSettings has %d fields: the table above names seven and Prefixes is SSE_TUNNEL", n)
	}
}

// What has not changed is the very same afterwards, for the proxy to tell.
func TestAdopt(t *testing.T) {
	env := append(slices.Clone(base), "SSE_TICKET_KEY="+strings.Repeat("ab", 32), "SSE_AUTH=jwt", "SSE_JWT_KEYS=secret:x")
	was := load(t, env...)
	now := load(t, append(slices.Clone(env), "SSE_ROUTE_POLL_EVERY=9s", "SSE_MAX_CLIENTS=5")...)
	now.adopt(was, was.Diff(now))
	if now.Routes[0] != was.Routes[0] || now.Routes[1] == was.Routes[1] || now.Tickets != was.Tickets || now.Routes[1].Upstream == was.Routes[1].Upstream {
		t.Error("adopted other things than what has not changed")
	}
	again := load(t, append(slices.Clone(env), "SSE_ROUTE_POLL_EVERY=9s", "SSE_MAX_CLIENTS=5", "SSE_TICKET_TTL=5s")...)
	again.adopt(now, now.Diff(again))
	if again.Routes[0] != was.Routes[0] || again.Routes[1] != now.Routes[1] || again.Tickets == was.Tickets {
		t.Error("the second time")
	}
}

// A guard that looks at its keys is not another one since they have changed; one of other settings is.
// TestTrustIsNoChange: a route whose upstream has an authority, a certificate or a name of its own is the same after it was read again.
func TestTrustIsNoChange(t *testing.T) {
	ca := authority.New("ours").PEM
	load := func(secret string) *Config {
		t.Helper()
		files := map[string][]byte{"/secret": []byte(secret), "/ca": ca}
		c, err := Load([]string{"SSE_UPSTREAM=https://legacy", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=wss://legacy/", "SSE_ROUTE_A_HEADERS_FILE=/secret",
			"SSE_ROUTE_A_UPSTREAM_NAME=legacy.internal", "SSE_ROUTE_A_UPSTREAM_CA=/ca"},
			func(name string) ([]byte, error) { return files[name], nil })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if d := load("X-Key: one").Diff(load("X-Key: two")); d.Routes[0].How != Same {
		t.Errorf("%+v", d)
	}
}

func TestAccessBecomes(t *testing.T) {
	look := func() (*access.KeySettings, error) { return nil, nil }
	s := access.Settings{Methods: []string{access.JWT}, Keys: access.KeySettings{Secrets: []string{"a"}, Reread: look}}
	rotated, other, fixed := s, s, s
	rotated.Keys.Secrets = []string{"b"}
	other.Revalidate = time.Second
	fixed.Keys.Reread = nil
	if !s.Becomes(rotated) || s.Becomes(other) || s.Becomes(fixed) {
		t.Error(s.Becomes(rotated), s.Becomes(other), s.Becomes(fixed))
	}
}

// How servers are reached that what is passed through keeps cannot change while the sidecar runs.
func TestDiffOfNetworks(t *testing.T) {
	all := files(keyFiles())
	base := []string{"SSE_UPSTREAM=https://legacy", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=wss://legacy/a"}
	for _, c := range []struct {
		was, now []string
		want     string
	}{
		{nil, nil, ""},
		{nil, []string{"SSE_UPSTREAM_CA=ca"}, "SSE_UPSTREAM_CA"},
		{[]string{"SSE_UPSTREAM_NAME=a.internal"}, []string{"SSE_UPSTREAM_NAME=b.internal"}, "SSE_UPSTREAM_NAME"},
		{nil, []string{"HTTPS_PROXY=http://user:hunter2@proxy:3128"}, "HTTP_PROXY, HTTPS_PROXY or NO_PROXY"},
		{[]string{"https_proxy=http://proxy:3128"}, []string{"HTTPS_PROXY=http://proxy:3128"}, ""},
		{nil, []string{"NO_PROXY=x"}, ""},
		{nil, []string{"SSE_ROUTE_A_UPSTREAM_NAME=a.internal"}, ""},
	} {
		was, err := Load(append(c.was, base...), all)
		now, err2 := Load(append(c.now, base...), all)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if got := strings.Join(was.Diff(now).Restart, " "); got != c.want {
			t.Errorf("%v to %v: %q, want %q", c.was, c.now, got, c.want)
		}
	}
}
