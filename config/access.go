package config

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/upstream"
)

// accessSettings are those of AUTH, by the method that they are for; "" any.
var accessSettings = map[string]string{"AUTH_URL": access.Forward, "AUTH_HEADERS": "", "AUTH_CLAIMS": "", "REVALIDATE": "",
	"JWT_KEYS": access.JWT, "JWT_ISSUER": access.JWT, "JWT_AUDIENCE": access.JWT, "JWT_FROM": access.JWT}

// access checks AUTH and what belongs to it; nil without it. own are the variables of the route alone.
func (l *loader) access(route string, vs, own values, s settings) *access.Settings {
	a := &access.Settings{Methods: l.methods(route, vs, s.Auth), Claims: s.AuthClaims, Issuer: s.JWTIssuer, Audience: s.JWTAudience,
		Revalidate: s.Revalidate.duration(), Kind: upstream.Kind}
	for setting, method := range accessSettings {
		v, set := own[setting]
		switch {
		case !set || vs["AUTH"].bad:
		case len(a.Methods) == 0:
			l.problems.add(v.variable, "has no effect without AUTH; set AUTH to forward or jwt, or unset it")
		case method != "" && !slices.Contains(a.Methods, method):
			l.problems.add(v.variable, "has no effect here: it is for AUTH=%s; unset it, or add %s to AUTH", method, method)
		}
	}
	if len(a.Methods) == 0 {
		return nil
	}
	a.Headers = l.authHeaders(route, vs, s.AuthHeaders)
	l.checkClaims(route, vs, s.AuthClaims)
	if slices.Contains(a.Methods, access.Forward) {
		a.URL = s.AuthURL
		l.checkAuthURL(route, vs, s.AuthURL)
	}
	if slices.Contains(a.Methods, access.JWT) {
		a.Keys = l.keys(route, vs, s.JWTKeys)
		a.From = l.tokenPlaces(route, vs, s.JWTFrom)
	}
	return a
}

// methods are those of AUTH, none when it is off.
func (l *loader) methods(route string, vs values, given list) (methods []string) {
	if len(given) == 1 && none(given[0]) {
		return nil
	}
	for _, method := range given {
		switch {
		case method != access.Forward && method != access.JWT:
			l.problems.add(vs.variable(name{route, "AUTH"}), "%s is none of forward, jwt; write forward, jwt or both, comma-separated", quote(method))
			v := vs["AUTH"]
			v.bad = true
			vs["AUTH"] = v
		case !slices.Contains(methods, method):
			methods = append(methods, method)
		}
	}
	return methods
}

func (l *loader) authHeaders(route string, vs values, given list) (headers []string) {
	for _, text := range given {
		canonical := http.CanonicalHeaderKey(text)
		switch {
		case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }):
			l.problems.add(vs.variable(name{route, "AUTH_HEADERS"}), "%s is not a header's name; write names with commas, such as Cookie, Authorization", quote(text))
		case canonical == "Host", strings.HasPrefix(canonical, "X-Forwarded-"), slices.Contains([]string{"Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Te", "Trailer"}, canonical):
			l.problems.add(vs.variable(name{route, "AUTH_HEADERS"}), "%s is set by the sidecar; leave it out", canonical)
		case !slices.Contains(headers, canonical):
			headers = append(headers, canonical)
		}
	}
	return headers
}

func (l *loader) checkClaims(route string, vs values, claims list) {
	for _, claim := range claims {
		if strings.ContainsAny(claim, "{}:\" \t") {
			l.problems.add(vs.variable(name{route, "AUTH_CLAIMS"}), "%s cannot stand in a placeholder; write names of claims or headers with commas, such as sub, realm_access.roles", quote(claim))
		}
	}
}

// checkAuthURL shows no part of the address: it may hold a secret.
func (l *loader) checkAuthURL(route string, vs values, address string) {
	variable := vs.variable(name{route, "AUTH_URL"})
	const write = "write the address that answers 2xx for a session that may come in, such as http://localhost:3000/auth"
	switch {
	case vs["AUTH_URL"].bad:
	case address == "":
		l.problems.add(variable, "required with AUTH=forward; %s", write)
	case !isAddress(address):
		l.problems.add(variable, "is not an http:// or https:// address without user name and fragment; %s", write)
	}
}

func isAddress(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && validPort(u.Port()) && !strings.Contains(address, "#")
}

// keys reads JWT_KEYS. What it holds is not shown, nor is a path: either may be a secret.
func (l *loader) keys(route string, vs values, text string) access.KeySettings {
	v, variable := vs["JWT_KEYS"], vs.variable(name{route, "JWT_KEYS"})
	if v.bad {
		return access.KeySettings{}
	}
	if text == "" {
		l.problems.add(variable, "required with AUTH=jwt; write the https:// address of a JWKS, the path of a PEM file, or secret: and the secret")
		return access.KeySettings{}
	}
	keys, path, err := l.parseKeys(text)
	if err == nil {
		err = keys.Check()
	}
	if err != nil {
		l.problems.add(variable, "%v", err)
		return keys
	}
	keys.Reread = l.rereadKeys(v, text, path, keys)
	return keys
}

// parseKeys is one value of JWT_KEYS. path is that of a PEM file, if it names one.
func (l *loader) parseKeys(text string) (keys access.KeySettings, path string, err error) {
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(text, "http://"), strings.HasPrefix(text, "https://"):
		keys.URL = text
		if !isAddress(text) {
			err = fmt.Errorf("is not an address without user name and fragment; write that of a JWKS, such as https://login.example/realms/app/protocol/openid-connect/certs")
		}
	case strings.HasPrefix(text, "secret:"):
		for line := range strings.Lines(text) {
			secret, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "secret:")
			if !ok || secret == "" {
				return keys, "", fmt.Errorf("has a line that is not secret: and a secret; write one a line")
			}
			keys.Secrets = append(keys.Secrets, secret)
		}
	case strings.HasPrefix(text, "-----BEGIN"):
		keys.PEM = text
	default:
		file, failed := l.file(text)
		if failed != nil {
			return keys, "", fmt.Errorf("the file it names cannot be read: %v; write the https:// address of a JWKS, the path of a PEM file, or secret: and the secret", failed)
		}
		keys.PEM, path = string(file), text
	}
	return keys, path, err
}

// rereadKeys returns what JWT_KEYS is when the files have changed that it stands in, or names; nil when there are none.
func (l *loader) rereadKeys(v value, text, path string, was access.KeySettings) func() (*access.KeySettings, error) {
	if !v.file && path == "" {
		return nil
	}
	readFile := l.readFile
	return func() (*access.KeySettings, error) {
		again := loader{readFile: readFile}
		now := text
		if v.file {
			held := v
			held.text = v.path
			if now = again.contents(held).text; len(again.problems) > 0 {
				return nil, again.problems.err()
			}
		}
		keys, _, err := again.parseKeys(now)
		if err == nil && (keys.URL != was.URL) {
			err = fmt.Errorf("%s: the address of the keys has changed, which takes a reload of the configuration", v.variable)
		}
		if err == nil {
			err = keys.Check()
		}
		if err != nil || keys.PEM == was.PEM && slices.Equal(keys.Secrets, was.Secrets) {
			return nil, err
		}
		was = keys
		return &keys, nil
	}
}

func (l *loader) tokenPlaces(route string, vs values, given list) (places []access.Place) {
	for _, text := range given {
		kind, label, named := strings.Cut(text, ":")
		switch {
		case text == "header":
		case named && label != "" && (kind == "cookie" || kind == "query"):
		default:
			l.problems.add(vs.variable(name{route, "JWT_FROM"}), "%s is no place for a token; write header (Authorization: Bearer), cookie:NAME or query:NAME, comma-separated", quote(text))
			continue
		}
		places = append(places, access.Place{Kind: kind, Name: label})
	}
	return places
}

// tickets checks SSE_TICKET_KEY; nil when it is not set.
func (l *loader) tickets(vs values, g globals) *access.TicketSettings {
	v, set := vs["TICKET_KEY"]
	if !set {
		for _, setting := range []string{"TICKET_TTL", "TICKET_REUSE"} {
			if v, set := vs[setting]; set {
				l.problems.add(v.variable, "has no effect without SSE_TICKET_KEY; set that, or unset it")
			}
		}
		return nil
	}
	t := &access.TicketSettings{TTL: g.TicketTTL.duration(), Reuse: g.TicketReuse.duration()}
	var err error
	if t.Keys, err = ticketKeys(g.TicketKey); err != nil && !v.bad {
		l.problems.add(v.variable, "%v", err)
	}
	if t.Reuse < t.TTL && !vs["TICKET_TTL"].bad && !vs["TICKET_REUSE"].bad {
		l.problems.add(vs.variable(name{setting: "TICKET_REUSE"}), "%v is less than SSE_TICKET_TTL, %v; write a longer one", t.Reuse, t.TTL)
	}
	if v.file {
		t.Reread = l.rereadTicketKeys(v)
	}
	return t
}

// rereadTicketKeys returns the keys when their file has changed.
func (l *loader) rereadTicketKeys(v value) func() ([]access.TicketKey, error) {
	readFile, was := l.readFile, v.text
	return func() ([]access.TicketKey, error) {
		again, held := loader{readFile: readFile}, v
		held.text = v.path
		now := again.contents(held).text
		if err := again.problems.err(); err != nil || now == was {
			return nil, err
		}
		keys, err := ticketKeys(splitList(now))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.variable, err)
		}
		was = now
		return keys, nil
	}
}

func splitList(text string) (l list) {
	_ = l.UnmarshalText([]byte(text)) // which takes any text
	return l
}

func ticketKeys(texts list) (keys []access.TicketKey, err error) {
	for i, text := range texts {
		key, err := access.ParseTicketKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %d of %d %w", i+1, len(texts), err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("holds no key; make one with `openssl rand -hex 32`")
	}
	return keys, nil
}

// authShown is what AUTH amounts to, for check.
func authShown(a *access.Settings) string {
	var parts []string
	for _, method := range a.Methods {
		if method == access.Forward {
			parts = append(parts, fmt.Sprintf("asks %s with %s", upstream.Redact(a.URL), strings.Join(a.Headers, ", ")))
			continue
		}
		keys := "a secret"
		switch {
		case a.Keys.URL != "":
			keys = "the keys of " + upstream.Redact(a.Keys.URL)
		case a.Keys.PEM != "":
			keys = "public keys in PEM"
		}
		parts = append(parts, "verifies JWTs by "+keys)
	}
	text := strings.Join(parts, ", and ")
	if a.Revalidate > 0 && a.URL != "" {
		text += fmt.Sprintf(", again every %v", a.Revalidate.Round(time.Millisecond))
	}
	return text
}
