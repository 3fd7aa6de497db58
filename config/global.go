package config

import (
	"crypto/tls"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/history"
	"sidestream/proxy/history/redis"
	"sidestream/proxy/migrate/learn"
	"sidestream/proxy/outbound"
)

// globals makes a Config without routes of the global variables.
func (l *loader) globals(vs values) *Config {
	g := parse[globals](l, globalFields, vs)
	shared := parse[settings](l, routeFields, inherited(vs)) // for routes to come, or none: a wrong value is wrong
	c := &Config{
		Settings: proxy.Settings{
			MaxClients:    int(g.MaxClients),
			MaxStreams:    int(g.MaxStreams),
			MaxPerAddress: int(g.MaxPerIP),
			MaxReplay:     int64(g.MaxReplay),
			MaxHeader:     int(g.MaxHeader),
			Drain:         g.Drain.duration(),
			Restart:       g.Restart.duration(),
			Doctor:        bool(g.Doctor),
			Goroutines:    g.Writers == "goroutine",
			TLSCert:       g.TLSCert,
			TLSKey:        g.TLSKey,
		},
		Listen:      g.Listen,
		ListenMode:  fs.FileMode(g.ListenMode),
		AdminListen: g.AdminListen,
		MaxValue:    int(g.MaxValue),
		LogFormat:   g.LogFormat,
	}
	if none(g.AdminListen) {
		c.AdminListen = ""
	}
	if !onSocket(c.Listen) {
		c.ListenMode = 0
	}
	l.checkListen(c, vs)
	c.History = l.history(vs, g)
	c.AdminHosts = l.adminHosts(vs, g.AdminHosts)
	c.AdminToken, c.AdminPayloads = l.adminToken(vs, g.AdminToken), bool(g.AdminPayloads)
	c.Upstream, c.Network.Socket = l.upstream(vs, g.Upstream)
	c.Network.Proxies, c.Network.Trust = l.forward, l.trust("", vs, shared, g.Upstream)
	l.passed, l.passing = c.Upstream, c.Network
	c.UpstreamFile = vs["UPSTREAM"].file
	c.Learner = l.learner(vs, bool(g.Learn), c)
	l.checkTLS(vs, g.TLSCert, g.TLSKey)
	c.CORSOrigins = l.origins(vs, g.CORSOrigins)
	c.Tickets = l.tickets(vs, g)
	c.TrustedProxies = l.proxies(vs, g.TrustedProxies)
	c.TrustLocal = l.trustsLocal(vs, g.TrustedProxies, g.Listen, g.MaxPerIP > 0)
	c.MigrationDays, c.Sunsets = int(g.MigrationDays), l.sunsets(vs, g.Sunset)
	c.Tunnel = l.tunnel(vs, g.Tunnel, shared, c.Upstream != nil)
	c.Sets = sets(shared)
	c.Peer = l.peer(vs, g)
	l.checkPeerListen(vs, g, c.Peer)
	if store, ok := c.History.(redis.Settings); ok && c.Peer != nil {
		store.Peer = c.Peer.URL
		c.History = store
	}
	c.given.globals = given[globals]{vs, g}
	_ = c.LogLevel.UnmarshalText([]byte(g.LogLevel)) // one of four, checked by parse
	return c
}

// learner is what learns from what is passed through; nil without SSE_LEARN.
func (l *loader) learner(vs values, on bool, c *Config) *learn.Learner {
	if !on {
		return nil
	}
	if _, set := vs["UPSTREAM"]; !set {
		l.problems.add(vs.variable(name{setting: "LEARN"}), "learns from what is passed through, and SSE_UPSTREAM is not set; set it to your service's base URL, or unset SSE_LEARN")
		return nil
	}
	return learn.New(c.Upstream, c.Network.Socket)
}

// inherited picks the global values that routes inherit.
func inherited(global values) values {
	vs := maps.Clone(global)
	maps.DeleteFunc(vs, func(setting string, _ value) bool { return !isShared(setting) })
	return vs
}

// none reads the two words for it.
func none(s string) bool { return s == "off" || s == "0" }

func (l *loader) checkListen(c *Config, vs values) {
	public, ok := l.listenAddress(vs, c.Listen)
	if v, set := vs["LISTEN_MODE"]; set && !v.bad && !onSocket(c.Listen) && !vs["LISTEN"].bad {
		l.problems.add(v.variable, "has no effect, as SSE_LISTEN is no Unix socket; unset it")
	}
	if c.AdminListen == "" {
		return
	}
	admin, adminOK := l.address(vs, "ADMIN_LISTEN", c.AdminListen)
	if ok && adminOK && public.overlaps(admin) {
		l.problems.add(vs.variable(name{setting: "ADMIN_LISTEN"}),
			"%s uses the same port as SSE_LISTEN, %s; give one of them another port", quote(c.AdminListen), quote(c.Listen))
	}
}

// history checks SSE_HISTORY; nil for memory. No part of a URL is shown: it may hold a password.
func (l *loader) history(vs values, g globals) history.Opener {
	const write = "write memory, file: and the path of a folder, such as file:/var/lib/sidestream, or the URL of a Redis, such as redis://redis:6379"
	variable, at := vs.variable(name{setting: "HISTORY"}), strings.TrimSpace(g.History)
	dir, isFile := strings.CutPrefix(at, "file:")
	scheme, _, isURL := strings.Cut(at, "://")
	switch {
	case at == "memory":
		return nil
	case isURL && strings.HasPrefix(scheme, "redis"):
		return l.redis(vs, g, at)
	case isURL:
		l.problems.add(variable, "is the URL of no Redis; %s", write)
	case isFile && filepath.IsAbs(dir):
		return history.Settings{Dir: filepath.Clean(dir), Sync: time.Duration(g.HistorySync), TTL: g.HistoryTTL.duration()}
	case isFile:
		l.problems.add(variable, "%s names no absolute path; %s", quote(at), write)
	default:
		l.problems.add(variable, "%s is neither memory nor a folder; %s", quote(at), write)
	}
	return nil
}

func (l *loader) redis(vs values, g globals, at string) history.Opener {
	s, err := redis.Parse(at)
	if err != nil {
		l.problems.add(vs.variable(name{setting: "HISTORY"}), "%v", err)
	}
	if strings.ContainsFunc(g.HistoryPrefix, func(r rune) bool { return r <= ' ' || r > '~' || r == '{' || r == '}' }) || len(g.HistoryPrefix) > 64 {
		l.problems.add(vs.variable(name{setting: "HISTORY_PREFIX"}), "holds blanks, braces, letters beyond ASCII, or more than 64 characters; write a word, such as sidestream")
	}
	s.Prefix, s.TTL = g.HistoryPrefix, g.HistoryTTL.duration()
	return s
}

func (l *loader) adminHosts(vs values, given list) (hosts []string) {
	for _, s := range given {
		if strings.ContainsAny(s, "/:*@") {
			l.problems.add(vs.variable(name{setting: "ADMIN_HOSTS"}), "%s is not a host name; write it without scheme, port and path, such as metrics.example.com", quote(redact(s)))
			continue
		}
		hosts = append(hosts, strings.ToLower(s))
	}
	return hosts
}

// adminToken checks the token, no part of which is shown.
func (l *loader) adminToken(vs values, token string) string {
	if token != "" && (len(token) < 16 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })) {
		l.problems.add(vs.variable(name{setting: "ADMIN_TOKEN"}), "is shorter than 16 bytes, or holds blanks or letters beyond ASCII; write one such as openssl rand -hex 16 makes")
	}
	return token
}

// onSocket reports whether an address to listen on is a Unix socket's.
func onSocket(listen string) bool { return strings.HasPrefix(listen, "unix:") }

// listenAddress checks SSE_LISTEN. That of a Unix socket is nobody else's, and not returned.
func (l *loader) listenAddress(vs values, listen string) (address, bool) {
	if !onSocket(listen) {
		return l.address(vs, "LISTEN", listen)
	}
	if _, _, err := outbound.SplitSocket("http+unix://" + strings.TrimPrefix(listen, "unix:") + ":"); err != nil || strings.Count(listen, ":") > 1 {
		l.problems.add(vs.variable(name{setting: "LISTEN"}), "%s does not name a Unix socket by its absolute path, of at most 107 bytes; write such as unix:/run/sidestream/sse.sock", quote(listen))
	}
	return address{}, false
}

type address struct{ host, port string }

// overlaps reports whether one cannot listen on both.
func (a address) overlaps(b address) bool {
	return a.port == b.port && a.port != "0" && (a.host == b.host || a.wildcard() || b.wildcard())
}

func (a address) wildcard() bool { return a.host == "" || a.host == "0.0.0.0" || a.host == "::" }

func (l *loader) address(vs values, setting, s string) (address, bool) {
	variable := vs.variable(name{setting: setting})
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		l.problems.add(variable, "%s is not host:port; write %s", quote(s), likelyAddress(s))
		return address{}, false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || port != strconv.FormatUint(n, 10) {
		l.problems.add(variable, "%s has no port number from 0 to 65535; write one, such as %s", quote(s), net.JoinHostPort(host, "8080"))
		return address{}, false
	}
	if strings.ContainsAny(host, "/@ \t\n") {
		l.problems.add(variable, "%s is not host:port; write an address without scheme and path, such as :%s", quote(s), port)
		return address{}, false
	}
	return address{host, port}, true
}

// likelyAddress guesses what s was meant to be: 8080 is :8080.
func likelyAddress(s string) string {
	if _, err := strconv.ParseUint(s, 10, 16); err == nil {
		return ":" + s
	}
	return ":8080 or 127.0.0.1:8080"
}

// upstream checks SSE_UPSTREAM. No part of it is shown but its scheme, since people put passwords into URLs. socket is the Unix socket that it is on,
// "" for none.
func (l *loader) upstream(vs values, s string) (u *url.URL, socket string) {
	s = strings.TrimSpace(s)
	if s == "" || none(s) {
		return nil, ""
	}
	variable := vs.variable(name{setting: "UPSTREAM"})
	if strings.HasPrefix(s, "ws+unix://") {
		l.problems.add(variable, "is a WebSocket address; write http+unix:// instead of ws+unix:// (WebSockets pass through as well)")
		return nil, ""
	}
	socket, s, err := outbound.SplitSocket(s)
	if err != nil {
		l.problems.add(variable, "%v", err)
		return nil, ""
	}
	u, err = url.Parse(s)
	if problem := upstreamProblem(u, err, s); problem != "" {
		l.problems.add(variable, "%s", problem)
		return nil, ""
	}
	return u, socket
}

func upstreamProblem(u *url.URL, err error, s string) string {
	const write = "; write the service's base URL, such as http://localhost:3000"
	switch {
	case quoted(s):
		return "is in quotes, which are part of the value here; leave them out"
	case err != nil:
		return "is not a URL" + write
	case u.Scheme == "ws" || u.Scheme == "wss":
		return "is a WebSocket URL; write http" + strings.TrimPrefix(u.Scheme, "ws") + ":// instead of " + u.Scheme + ":// (WebSockets pass through as well)"
	case u.Scheme != "http" && u.Scheme != "https":
		return "does not begin with http:// or https://" + write
	case u.User != nil:
		return "contains a user name or password; leave it out, requests that are passed through bring their own credentials" + write
	case u.Hostname() == "" || u.Opaque != "":
		return "names no host" + write
	case !validPort(u.Port()):
		return "has no port number from 1 to 65535" + write
	case u.RawQuery != "" || u.ForceQuery:
		return "contains a query; leave out everything from ? on" + write
	case strings.Contains(s, "#"):
		return "contains a fragment; leave out everything from # on" + write
	}
	return ""
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

func (l *loader) checkTLS(vs values, cert, key string) {
	c, certSet := vs["TLS_CERT"]
	k, keySet := vs["TLS_KEY"]
	switch {
	case !certSet && !keySet || c.bad || k.bad:
		return
	case !keySet:
		l.problems.add("SSE_TLS_KEY", "missing while SSE_TLS_CERT is set; set it to the path of the certificate's key, or unset both")
		return
	case !certSet:
		l.problems.add("SSE_TLS_CERT", "missing while SSE_TLS_KEY is set; set it to the path of the certificate chain, or unset both")
		return
	}
	certPEM, certOK := l.pem(c)
	keyPEM, keyOK := l.pem(k)
	if !certOK || !keyOK {
		return
	}
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		l.problems.add(c.variable, "does not form a key pair with %s: %v; give the PEM chain, leaf first, and its private key", k.variable, err)
	}
}

// pem reads the file that v names. Neither path nor contents are shown: either may be the key itself.
func (l *loader) pem(v value) ([]byte, bool) {
	if strings.Contains(v.text, "-----BEGIN") {
		l.problems.add(v.variable, "contains PEM text; give the path of the file instead%s", hintFile(v))
		return nil, false
	}
	text, err := l.file(v.text)
	if err != nil {
		l.problems.add(v.variable, "the file it names cannot be read: %v; give the path of a readable PEM file", err)
		return nil, false
	}
	return text, true
}

// hintFile helps a user who took the _FILE of SSE_TLS_KEY_FILE for a part of the name.
func hintFile(v value) string {
	if v.file {
		return ": set " + strings.TrimSuffix(v.variable, fileSuffix) + " to the path you gave here"
	}
	return ""
}

func (l *loader) origins(vs values, given list) []string {
	var origins []string
	for _, s := range given {
		origin, problem := parseOrigin(s)
		if problem != "" {
			l.problems.add(vs.variable(name{setting: "CORS_ORIGINS"}), "%s %s", quote(redact(s)), problem)
			continue
		}
		if !slices.Contains(origins, origin) {
			origins = append(origins, origin)
		}
	}
	return origins
}

// redact drops user name and password.
func redact(s string) string { return s[strings.LastIndex(s, "@")+1:] }

// parseOrigin gives s as browsers send it in Origin: scheme, host and a port unless it is the scheme's own.
func parseOrigin(s string) (origin, problem string) {
	if strings.Contains(s, "*") {
		return "", "is a pattern; list each origin in full, since any page of an allowed origin acts with its visitors' cookies"
	}
	u, err := url.Parse(strings.ToLower(s))
	if err != nil || u.Scheme == "" || u.Hostname() == "" || !validPort(u.Port()) {
		return "", "is not an origin; write scheme and host, such as https://app.example.com"
	}
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > 127 }) {
		return "", "is not spelled as browsers send it; write the host in its xn-- form"
	}
	if bare := u.Scheme + "://" + u.Host; bare != strings.ToLower(s) {
		return "", "is more than an origin; write " + u.Scheme + "://" + u.Host
	}
	if u.Port() == "80" && u.Scheme == "http" || u.Port() == "443" && u.Scheme == "https" {
		return strings.TrimSuffix(u.Scheme+"://"+u.Host, ":"+u.Port()), ""
	}
	return strings.TrimSuffix(u.Scheme+"://"+u.Host, ":"), ""
}

// checkAnything reports an environment that asks for nothing, which is most likely a mistake of deployment.
func (l *loader) checkAnything(global values, routes map[string]values) {
	if _, ok := global["UPSTREAM"]; ok || len(routes) > 0 {
		return
	}
	l.problems.add("SSE_UPSTREAM", "neither it nor any route is set, so there is nothing to serve; set it to your service's base URL, "+
		"such as http://localhost:3000, then add a route: SSE_ROUTE_PRICES_PATH=/prices and SSE_ROUTE_PRICES_FROM=ws://localhost:3000/feed")
}
