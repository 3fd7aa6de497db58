package config

import (
	"net"
	"net/url"
	"strings"

	"sidestream/proxy"
	"sidestream/proxy/history/redis"
	"sidestream/proxy/peer"
)

// sharesHistory reports whether SSE_HISTORY is one that several replicas share.
func sharesHistory(setting string) bool {
	return strings.HasPrefix(strings.TrimSpace(setting), "redis")
}

// peer checks SSE_PEER and what belongs to it; nil without. Nothing of the secrets is shown.
func (l *loader) peer(vs values, g globals) *peer.Settings {
	const address = "set it to this replica's address for the others, such as http://10.1.2.3:9092"
	own, secret := vs["PEER"], vs["PEER_SECRET"]
	if g.Peer == "" {
		for _, setting := range []string{"PEER_LISTEN", "PEER_SECRET"} {
			if v, set := vs[setting]; set && !own.bad {
				l.problems.add("SSE_PEER", "missing while %s is set; %s, or unset both", v.variable, address)
				break
			}
		}
		return nil
	}
	s := &peer.Settings{URL: strings.TrimSpace(g.Peer), Secrets: g.PeerSecret}
	u, err := url.Parse(s.URL)
	if problem := peerProblem(u, err, s.URL); problem != "" {
		l.problems.add(own.variable, "%s; %s", problem, address)
		u = nil
	} else if s.Listen = strings.TrimSpace(g.PeerListen); s.Listen == "" {
		s.Listen = ":" + port(u)
	}
	if !sharesHistory(g.History) {
		l.problems.add(own.variable, "only replicas that share a history have peers; set SSE_HISTORY to a Redis, such as redis://redis:6379, or unset %s", own.variable)
	}
	if u != nil && u.Scheme == "https" && g.TLSCert == "" {
		l.problems.add("SSE_TLS_CERT", "missing while SSE_PEER begins with https://; set it and SSE_TLS_KEY to a certificate for that host, or write http://")
	}
	switch {
	case len(g.PeerSecret) == 0 && !secret.bad:
		l.problems.add("SSE_PEER_SECRET", "missing while SSE_PEER is set; set it to at least %d bytes chosen at random, the same for all replicas, such as the output of openssl rand -hex 32", peer.MinSecret)
	default:
		l.checkSecrets(secret, g.PeerSecret)
	}
	return s
}

func (l *loader) checkSecrets(v value, secrets list) {
	for _, s := range secrets {
		if len(s) < peer.MinSecret {
			l.problems.add(v.variable, "holds a secret of less than %d bytes, which could be guessed; use the output of openssl rand -hex 32", peer.MinSecret)
			return
		}
	}
}

// peerProblem says why u cannot be SSE_PEER; "" when it can.
func peerProblem(u *url.URL, err error, s string) string {
	switch {
	case err != nil:
		return "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "does not begin with http:// or https://"
	case u.User != nil:
		return "contains a user name or password; leave it out, replicas know each other by SSE_PEER_SECRET"
	case u.Hostname() == "" || u.Opaque != "":
		return "names no host"
	case !validPort(u.Port()):
		return "has no port number from 1 to 65535"
	case u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return quote(s) + " is more than an address; leave out everything after the port"
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		return quote(s) + " is every address of this machine, and none that others could connect to"
	}
	return ""
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// checkPeerListen checks the address that other replicas are answered on.
func (l *loader) checkPeerListen(vs values, g globals, p *peer.Settings) {
	if p == nil || p.Listen == "" {
		return
	}
	own, ok := l.address(vs, "PEER_LISTEN", p.Listen)
	if !ok {
		return
	}
	from := "PEER"
	if g.PeerListen != "" {
		from = "PEER_LISTEN"
	}
	for setting, given := range map[string]string{"LISTEN": g.Listen, "ADMIN_LISTEN": g.AdminListen} {
		host, port, err := net.SplitHostPort(given)
		if err == nil && own.overlaps(address{host, port}) {
			l.problems.add(vs.variable(name{setting: from}), "%s uses the same port as %s, %s; give one of them another port", quote(p.Listen), prefix+setting, quote(given))
		}
	}
}

// shared reports whether several replicas share the history.
func (c *Config) shared() bool {
	_, ok := c.History.(redis.Settings)
	return ok
}

// reachesMessages is how a message for rt gets to its stream where several replicas share the history.
func (c *Config) reachesMessages(rt *proxy.RouteSettings) string {
	switch {
	case !c.shared():
		return ""
	case rt.Forgets:
		return ", where this replica has the stream (HISTORY=memory): keep each client on one replica"
	case c.Peer == nil:
		return ", where this replica holds the stream: set SSE_PEER, or keep each client on one replica"
	}
	return ", by whichever replica holds the stream"
}

// reachesPages is how requests of a page with tunnels get to it where several replicas share the history.
func (c *Config) reachesPages() string {
	switch {
	case !c.shared():
		return ""
	case c.Peer == nil:
		return "; a page has to stay on one replica: set SSE_PEER, or keep each client on one"
	}
	return "; any replica passes on what is for a page of another one"
}
