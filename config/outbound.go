package config

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"sidestream/proxy/outbound"
	"sidestream/proxy/upstream"
)

// The settings of TLS with upstreams.
var upstreamTLS = []string{"UPSTREAM_CA", "UPSTREAM_CERT", "UPSTREAM_KEY", "UPSTREAM_NAME"}

// trust is what the servers of a route, or of pass-through where route is "", are verified by and shown; nil: nothing is set. at is the address
// of one of them.
func (l *loader) trust(route string, vs values, s settings, at string) *outbound.Trust {
	paths := map[string]string{"UPSTREAM_CA": s.UpstreamCA, "UPSTREAM_CERT": s.UpstreamCert, "UPSTREAM_KEY": s.UpstreamKey}
	server := s.UpstreamName
	if none(server) {
		server = ""
	}
	if strings.ContainsAny(server, ":/@ \t") {
		l.problems.add(vs.variable(name{route, "UPSTREAM_NAME"}), "%s is not a host name; write the name in the upstream's certificate, without scheme and port, such as legacy.internal", quote(server))
	}
	texts := l.readKeys(route, vs, paths)
	keys := l.parseKeyFiles(route, vs, texts)
	if len(texts) == 0 && server == "" {
		return nil
	}
	var reread func() (*outbound.Keys, error)
	if len(texts) > 0 {
		reread = l.rereadKeyFiles(route, vs, paths, texts)
	}
	return outbound.NewTrust(keys, hostOf(at), server, reread)
}

// readKeys reads the files that paths name, by setting. What is wrong is reported.
func (l *loader) readKeys(route string, vs values, paths map[string]string) map[string][]byte {
	texts := map[string][]byte{}
	for setting, path := range paths {
		if path == "" || none(path) || vs[setting].bad {
			continue
		}
		if text, ok := l.pem(value{variable: vs.variable(name{route, setting}), text: path, file: vs[setting].file}); ok {
			texts[setting] = text
		}
	}
	_, cert := texts["UPSTREAM_CERT"]
	_, key := texts["UPSTREAM_KEY"]
	missing := func(setting, other string) {
		if path := paths[setting]; path == "" || none(path) {
			n := name{route, setting}
			if !strings.HasPrefix(vs.variable(name{route, other}), routePrefix) {
				n.route = "" // both are global
			}
			l.problems.add(n.String(), "missing while %s is set; set it to the path of a PEM file, or unset both", vs.variable(name{route, other}))
		}
	}
	if cert && !key {
		missing("UPSTREAM_KEY", "UPSTREAM_CERT")
	}
	if key && !cert {
		missing("UPSTREAM_CERT", "UPSTREAM_KEY")
	}
	return texts
}

// parseKeyFiles makes keys of the files' texts. What is wrong is reported.
func (l *loader) parseKeyFiles(route string, vs values, texts map[string][]byte) (keys outbound.Keys) {
	problem := func(setting string, err error) {
		l.problems.add(vs.variable(name{route, setting}), "the file it names %v", err)
	}
	var err error
	if text, given := texts["UPSTREAM_CA"]; given {
		if keys.Roots, err = outbound.ParseRoots(text); err != nil {
			problem("UPSTREAM_CA", err)
		}
	}
	cert, certGiven := texts["UPSTREAM_CERT"]
	key, keyGiven := texts["UPSTREAM_KEY"]
	if !certGiven || !keyGiven {
		return keys
	}
	keys.Client, err = outbound.ParsePair(cert, key)
	if wrong, ok := errors.AsType[outbound.CertError](err); ok {
		problem("UPSTREAM_CERT", wrong)
	} else if err != nil {
		problem("UPSTREAM_KEY", err)
	}
	return keys
}

// rereadKeyFiles returns the keys when the files have changed that hold them. All of them are read: a key and its certificate go together.
func (l *loader) rereadKeyFiles(route string, vs values, paths map[string]string, was map[string][]byte) func() (*outbound.Keys, error) {
	readFile := l.readFile
	return func() (*outbound.Keys, error) {
		again := loader{readFile: readFile}
		texts := again.readKeys(route, vs, paths)
		if err := again.problems.err(); err != nil {
			return nil, err
		}
		changed := false
		for setting, text := range texts {
			changed = changed || !slices.Equal(text, was[setting])
		}
		if !changed {
			return nil, nil
		}
		keys := again.parseKeyFiles(route, vs, texts)
		if err := again.problems.err(); err != nil {
			return nil, err
		}
		was = texts
		return &keys, nil
	}
}

// hostOf is the host of an address, in lower case, without its port. There may be placeholders in its path.
func hostOf(address string) string {
	if _, plain, err := outbound.SplitSocket(address); err == nil {
		address = plain
	}
	scheme, rest, _ := strings.Cut(address, "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// network is how connections of a route are made; own are the variables of the route alone. A socket in FROM is upstream's to find.
func (l *loader) network(route string, vs, own values, s settings) outbound.Settings {
	if !l.checkOwnTLS(route, own, s) {
		s.UpstreamCert, s.UpstreamKey = "", "" // they are no pair, which is said
	}
	return outbound.Settings{Trust: l.trust(route, vs, s, s.From), Proxies: l.forward}
}

// checkOwnTLS reports settings of TLS that a route has of its own and that have no effect. ok is false when it has one of a certificate and a key, and
// the other is a global one.
func (l *loader) checkOwnTLS(route string, own values, s settings) (ok bool) {
	ok = true
	cert, certSet := own["UPSTREAM_CERT"]
	key, keySet := own["UPSTREAM_KEY"]
	if certSet && !keySet && !none(cert.text) && !none(s.UpstreamKey) && s.UpstreamKey != "" {
		l.problems.add(name{route, "UPSTREAM_KEY"}.String(), "missing while %s is set: the key of another certificate, SSE_UPSTREAM_KEY, is none for it; set it to the path of the certificate's own", cert.variable)
		ok = false
	}
	if keySet && !certSet && !none(key.text) && !none(s.UpstreamCert) && s.UpstreamCert != "" {
		l.problems.add(name{route, "UPSTREAM_CERT"}.String(), "missing while %s is set: the certificate of another key, SSE_UPSTREAM_CERT, is none for it; set it to the path of the key's own", key.variable)
		ok = false
	}
	if overTLS(s) || own["FROM"].bad {
		return ok
	}
	for _, setting := range upstreamTLS {
		if v, set := own[setting]; set && !none(v.text) {
			l.problems.add(v.variable, "has no effect, as FROM is without TLS; begin FROM with wss://, https:// or rediss://, or unset it")
		}
	}
	return ok
}

// overTLS reports whether anything of a route may be dialled with TLS.
func overTLS(s settings) bool {
	for _, address := range []string{s.From, s.First, s.Ticket, s.AuthURL} {
		if strings.HasPrefix(address, "wss://") || strings.HasPrefix(address, "rediss") || strings.Contains(address, "https://") {
			return true
		}
	}
	return s.Dial != "" || s.From == "" || s.Protocol != "raw" || upstream.AsksSecurely(s.Hello) // a dialect may be told where to go
}

// toAuth is how AUTH_URL or JWT_KEYS is asked: as the upstream whose host it is on, else as anybody, since another host's authorities are another
// question, and a certificate of ours is not for it.
func (l *loader) toAuth(address, from string, network outbound.Settings) outbound.Settings {
	switch at := hostOf(address); {
	case address == "" || at == "":
		return outbound.Settings{}
	case at == hostOf(from):
		if socket, _, err := outbound.SplitSocket(from); err == nil {
			network.Socket = socket
		}
		return network
	case l.passed != nil && at == strings.ToLower(l.passed.Hostname()):
		return l.passing
	}
	return outbound.Settings{Proxies: l.forward}
}

// forwardProxies reads HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in capital letters or not. No part of one is shown: it may hold a password.
func (l *loader) forwardProxies(environ []string) {
	given := map[string]string{}
	for _, entry := range environ {
		variable, text, _ := strings.Cut(entry, "=")
		if text = strings.TrimSpace(text); text != "" {
			given[variable] = text
		}
	}
	for variable, to := range map[string]*string{"HTTP_PROXY": &l.forward.HTTP, "HTTPS_PROXY": &l.forward.HTTPS, "NO_PROXY": &l.forward.No} {
		for _, spelled := range []string{strings.ToLower(variable), variable} { // the capitals win, as in Go
			text := given[spelled]
			if text == "" {
				continue
			}
			if variable != "NO_PROXY" {
				if err := outbound.CheckProxy(text); err != nil {
					l.problems.add(spelled, "%v", err)
					continue
				}
			}
			*to = text
		}
	}
	if l.forward.HTTP == "" && l.forward.HTTPS == "" {
		l.forward.No = "" // which changes nothing then
	}
}

// printer prints one line of check, with a label in front.
type printer func(label, format string, args ...any)

// trust prints what was read of UPSTREAM_CA and the others.
func (line printer) trust(t *outbound.Trust, now time.Time) {
	if t == nil {
		return
	}
	keys := t.Keys()
	if n := len(keys.Roots); n == 1 {
		line("tls", "verified by 1 authority of UPSTREAM_CA and no other:")
	} else if n > 1 {
		line("tls", "verified by %d authorities of UPSTREAM_CA and no other:", n)
	}
	for _, root := range keys.Roots {
		line("", "%s", outbound.Describe(root, now))
	}
	if keys.Client != nil && keys.Client.Leaf != nil {
		line("tls", "shows the certificate %s", outbound.Describe(keys.Client.Leaf, now))
	}
	if t.Name() != "" {
		line("tls", "the certificate has to be for %s", t.Name())
	}
	for _, problem := range keys.Problems(now) {
		line("warning", "%s", problem)
	}
}

// proxy prints by which forward proxy an address is reached, if by any.
func (line printer) proxy(proxies outbound.Proxies, address string) {
	scheme, rest, _ := strings.Cut(address, "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	via := proxies.For(&url.URL{Scheme: scheme, Host: rest})
	if via == nil || outbound.OnSocket(address) {
		return
	}
	variable := "HTTP_PROXY"
	if scheme == "https" || scheme == "wss" {
		variable = "HTTPS_PROXY"
	}
	line("proxy", "%s (%s)", outbound.Shown(via), variable)
}
