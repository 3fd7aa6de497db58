package config

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"sidestream/e2e/authority"
	"sidestream/proxy/outbound"
)

// keyFiles are files of keys by their names in the tests below.
func keyFiles() map[string]string {
	ours, others := authority.New("ours"), authority.New("others")
	one, two, old := ours.Issue("one"), ours.Issue("two"), ours.IssueUntil(time.Now().Add(-time.Hour), "old")
	return map[string]string{"ca": string(ours.PEM), "cas": string(ours.PEM) + string(others.PEM), "one": string(one.Cert), "one.key": string(one.Key),
		"two": string(two.Cert), "two.key": string(two.Key), "old": string(old.Cert), "old.key": string(old.Key), "none": "hidden text",
		"encrypted": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"}
}

var overTLSBase = []string{"SSE_UPSTREAM=https://legacy.example/base", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=wss://feed.example/a"}

func TestUpstreamTLS(t *testing.T) {
	all := files(keyFiles())
	c, err := Load(append(overTLSBase, "SSE_UPSTREAM_CA=cas", "SSE_UPSTREAM_CERT=one", "SSE_UPSTREAM_KEY=one.key", "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=https://feed.example/b",
		"SSE_ROUTE_B_UPSTREAM_CERT=two", "SSE_ROUTE_B_UPSTREAM_KEY=two.key", "SSE_ROUTE_B_UPSTREAM_CA=off", "SSE_ROUTE_B_UPSTREAM_NAME=feed.internal",
		"SSE_ROUTE_C_PATH=/c", "SSE_ROUTE_C_FROM=ws+unix:///run/app.sock:/c", "SSE_ROUTE_C_TICKET=GET http+unix:///run/app.sock:/t", "SSE_ROUTE_C_DIAL=.url"), all)
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[*outbound.Trust]struct {
		roots      int
		name, cert string
	}{
		c.Network.Trust:                      {2, "", "one"},
		c.Routes[0].Upstream.Network().Trust: {2, "", "one"},
		c.Routes[1].Upstream.Network().Trust: {0, "feed.internal", "two"},
	} {
		keys := who.Keys()
		if len(keys.Roots) != want.roots || who.Name() != want.name || keys.Client.Leaf.Subject.CommonName != want.cert {
			t.Errorf("%d authorities, %q, %v; want %+v", len(keys.Roots), who.Name(), keys.Client.Leaf.Subject, want)
		}
	}
	if c.Network.Socket != "" || c.Routes[2].Upstream.Network().Socket != "/run/app.sock" {
		t.Errorf("sockets %q, %q", c.Network.Socket, c.Routes[2].Upstream.Network().Socket)
	}
	var out strings.Builder
	if err := c.Check(&out); err != nil {
		t.Fatal(err)
	}
	until := c.Network.Trust.Keys().Client.Leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")
	for _, line := range []string{
		"\ntls      shows the certificate CN=one, issued by CN=ours, until " + until + "\n",
		"\n  tls     verified by 2 authorities of UPSTREAM_CA and no other:\n          CN=ours, issued by CN=ours, until ",
		"\n  tls     shows the certificate CN=two, issued by CN=ours, until " + until + "\n  tls     the certificate has to be for feed.internal\n",
		"\n  from    subscribes to ws+unix:///run/app.sock:/c\n  sharing one upstream connection, shared by all clients\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is not in\n%s", line, out.String())
		}
	}
}

func TestUpstreamTLSProblems(t *testing.T) {
	all := files(keyFiles())
	for _, c := range []struct {
		environ []string
		want    []string
	}{
		{[]string{"SSE_UPSTREAM_CA=nowhere"}, []string{"SSE_UPSTREAM_CA: the file it names cannot be read: file does not exist; give the path of a readable PEM file"}},
		{[]string{"SSE_UPSTREAM_CA=none"}, []string{"SSE_UPSTREAM_CA: the file it names holds no certificate in PEM"}},
		{[]string{"SSE_UPSTREAM_CA=one.key"}, []string{"SSE_UPSTREAM_CA: the file it names holds a private key"}},
		{[]string{"SSE_UPSTREAM_CA=-----BEGIN CERTIFICATE-----"}, []string{"SSE_UPSTREAM_CA: contains PEM text; give the path of the file instead"}},
		{[]string{"SSE_UPSTREAM_CERT=one"}, []string{"SSE_UPSTREAM_KEY: missing while SSE_UPSTREAM_CERT is set"}},
		{[]string{"SSE_UPSTREAM_KEY=one.key"}, []string{"SSE_UPSTREAM_CERT: missing while SSE_UPSTREAM_KEY is set"}},
		{[]string{"SSE_ROUTE_A_UPSTREAM_CERT=one"}, []string{"SSE_ROUTE_A_UPSTREAM_KEY: missing while SSE_ROUTE_A_UPSTREAM_CERT is set"}},
		{[]string{"SSE_UPSTREAM_CERT=one", "SSE_UPSTREAM_KEY=two.key"}, []string{"SSE_UPSTREAM_KEY: the file it names is not the key of the certificate in UPSTREAM_CERT"}},
		{[]string{"SSE_UPSTREAM_CERT=one", "SSE_UPSTREAM_KEY=encrypted"}, []string{"SSE_UPSTREAM_KEY: the file it names holds a key that is encrypted"}},
		{[]string{"SSE_UPSTREAM_CERT=none", "SSE_UPSTREAM_KEY=none"}, []string{"SSE_UPSTREAM_CERT: the file it names holds no certificate in PEM"}},
		{[]string{"SSE_UPSTREAM_CERT=one", "SSE_UPSTREAM_KEY=one.key", "SSE_ROUTE_A_UPSTREAM_CERT=two"},
			[]string{"SSE_ROUTE_A_UPSTREAM_KEY: missing while SSE_ROUTE_A_UPSTREAM_CERT is set: the key of another certificate"}},
		{[]string{"SSE_UPSTREAM_CERT=one", "SSE_UPSTREAM_KEY=one.key", "SSE_ROUTE_A_UPSTREAM_KEY=two.key"},
			[]string{"SSE_ROUTE_A_UPSTREAM_CERT: missing while SSE_ROUTE_A_UPSTREAM_KEY is set: the certificate of another key"}},
		{[]string{"SSE_UPSTREAM_NAME=https://legacy.internal"}, []string{`SSE_UPSTREAM_NAME: "https://legacy.internal" is not a host name`}},
		{[]string{"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=http://legacy/b", "SSE_ROUTE_B_UPSTREAM_CA=ca"}, []string{"SSE_ROUTE_B_UPSTREAM_CA: has no effect, as FROM is without TLS"}},
		{[]string{"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=ws+unix:///run/{path.x}:/b"}, []string{"SSE_ROUTE_B_FROM: has a placeholder in the socket's path"}},
		{[]string{"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=http+unix:///run/a:/b?c={stream.cursor}", "SSE_ROUTE_B_FIRST=http+unix:///run/b:/b", "SSE_ROUTE_B_CURSOR=.c"},
			[]string{"SSE_ROUTE_B_FIRST: is on another Unix socket than FROM"}},
		{[]string{"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=ws+unix:///run/a:/b", "SSE_ROUTE_B_TICKET=GET http+unix:///run/b:/t", "SSE_ROUTE_B_DIAL=.url"},
			[]string{"SSE_ROUTE_B_TICKET: is on another Unix socket than FROM"}},
		{[]string{"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=ws+unix://run/a:/b", "SSE_ROUTE_B_PROTOCOL=graphql-ws", "SSE_ROUTE_B_SUBSCRIBE=subscription { a }"},
			[]string{"SSE_ROUTE_B_FROM: does not name a socket by its absolute path"}},
		{[]string{"HTTP_PROXY=http://u:hidden@proxy/x", "https_proxy=gopher://hidden"}, []string{"HTTP_PROXY: is not the address of a proxy", "https_proxy: is a proxy of another kind"}},
	} {
		_, err := Load(append(overTLSBase[:len(overTLSBase):len(overTLSBase)], c.environ...), all)
		if err == nil {
			t.Errorf("%q: no problem", c.environ)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains("\n"+err.Error(), "\n"+want) {
				t.Errorf("%q: %v, want %s", c.environ, err, want)
			}
		}
		if strings.Contains(err.Error(), "hidden") || len(c.want) == 1 && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", c.environ, err)
		}
	}
	for _, wrong := range []string{"ws+unix:///run/a", "http+unix://run/a", "http+unix:///run/a:/x?y=1", "http+unix:///run/a:/x#y"} {
		if _, err := Load([]string{"SSE_UPSTREAM=" + wrong}, all); err == nil || !strings.HasPrefix(err.Error(), "SSE_UPSTREAM: ") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// An expired certificate may be used: what it is good for is the upstream's to decide. check says so.
func TestExpiredCertificate(t *testing.T) {
	c, err := Load(append(overTLSBase, "SSE_ROUTE_A_UPSTREAM_CERT=old", "SSE_ROUTE_A_UPSTREAM_KEY=old.key"), files(keyFiles()))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	c.Check(&out)
	if !strings.Contains(out.String(), " (expired)\n  warning the client certificate of UPSTREAM_CERT will be refused: CN=old, issued by CN=ours, until ") {
		t.Error(out.String())
	}
}

// Files that have changed are read again, whole.
func TestRereadKeys(t *testing.T) {
	held := keyFiles()
	held["ca.now"], held["now"], held["now.key"] = held["ca"], held["one"], held["one.key"]
	var l loader
	l.readFile = func(path string) ([]byte, error) {
		if text, ok := held[path]; ok {
			return []byte(text), nil
		}
		return nil, fs.ErrNotExist
	}
	paths := map[string]string{"UPSTREAM_CA": "ca.now", "UPSTREAM_CERT": "now", "UPSTREAM_KEY": "now.key"}
	reread := l.rereadKeyFiles("A", values{}, paths, l.readKeys("A", values{}, paths))
	want := func(who, problem string) {
		t.Helper()
		keys, err := reread()
		switch {
		case problem != "" && (err == nil || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), "hidden")),
			problem == "" && err != nil,
			(keys == nil) != (who == ""),
			who != "" && keys.Client.Leaf.Subject.CommonName != who:
			t.Errorf("%+v, %v; want %s %s", keys, err, who, problem)
		}
	}
	want("", "")
	held["now"] = held["two"]
	want("", "SSE_ROUTE_A_UPSTREAM_KEY: the file it names is not the key")
	held["now.key"] = held["two.key"]
	want("two", "")
	want("", "")
	held["ca.now"] = held["none"]
	want("", "SSE_ROUTE_A_UPSTREAM_CA: the file it names holds no certificate")
	held["ca.now"] = held["cas"]
	want("two", "")
	delete(held, "now")
	want("", "SSE_ROUTE_A_UPSTREAM_CERT: the file it names cannot be read")
}

// AUTH_URL and JWT_KEYS are asked as the upstream whose host they are on; any other host sees no certificate, and is verified as the web is.
func TestAuthOverTLS(t *testing.T) {
	for address, want := range map[string]string{"https://feed.example:99/auth": "two", "https://LEGACY.example/auth": "one", "https://login.example/auth": "", "http://other.example/": ""} {
		c, err := Load(append(overTLSBase, "SSE_UPSTREAM_CERT=one", "SSE_UPSTREAM_KEY=one.key", "SSE_ROUTE_A_UPSTREAM_CERT=two", "SSE_ROUTE_A_UPSTREAM_KEY=two.key",
			"SSE_AUTH=forward,jwt", "SSE_AUTH_URL="+address, "SSE_JWT_KEYS="+address, "HTTPS_PROXY=proxy:3128"), files(keyFiles()))
		if err != nil {
			t.Fatal(err)
		}
		for _, network := range []outbound.Settings{c.Routes[0].Access.Network, c.Routes[0].Access.KeysNetwork} {
			got := ""
			if network.Trust != nil {
				got = network.Trust.Keys().Client.Leaf.Subject.CommonName
			}
			if got != want || network.Proxies.HTTPS != "proxy:3128" {
				t.Errorf("%s: shown %q, %+v; want %q", address, got, network.Proxies, want)
			}
		}
	}
	c := load(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws+unix:///run/a:/a", "SSE_AUTH=forward", "SSE_AUTH_URL=http://localhost/auth")
	if socket := c.Routes[0].Access.Network.Socket; socket != "/run/a" {
		t.Errorf("asked on %q", socket)
	}
}

func TestForwardProxies(t *testing.T) {
	c := load(t, append(base, "SSE_UPSTREAM=https://legacy/", "http_proxy=lower:1", "HTTP_PROXY=http://u:hidden@upper:1", "https_proxy=secure:2", "no_proxy=x,y", "ALL_PROXY=socks5://z")...)
	want := outbound.Proxies{HTTP: "http://u:hidden@upper:1", HTTPS: "secure:2", No: "x,y"}
	if c.Network.Proxies != want || c.Routes[0].Upstream.Network().Proxies != want {
		t.Errorf("%+v, %+v", c.Network, c.Routes[0].Upstream.Network())
	}
	var out strings.Builder
	c.Check(&out)
	if text := out.String(); !strings.Contains(text, "\nproxy    http://secure:2 (HTTPS_PROXY)\n") || strings.Count(text, "\n  proxy   http://upper:1 (HTTP_PROXY)\n") != 2 || strings.Contains(text, "hidden") {
		t.Error(text)
	}
	if c := load(t, append(base, "no_proxy=x")...); c.Network != (outbound.Settings{}) {
		t.Errorf("%+v", c.Network)
	}
}

func TestListenUnix(t *testing.T) {
	c := load(t, append(base, "SSE_LISTEN=unix:/run/sse.sock", "SSE_TRUSTED_PROXIES=unix,10.0.0.0/8", "SSE_MAX_CLIENTS_PER_IP=3")...)
	if c.Listen != "unix:/run/sse.sock" || c.ListenMode != 0o660 || !c.TrustLocal || len(c.TrustedProxies) != 1 {
		t.Errorf("%+v", c)
	}
	if c := load(t, append(base, "SSE_LISTEN=unix:@sse", "SSE_LISTEN_MODE=600")...); c.ListenMode != 0o600 || c.TrustLocal {
		t.Errorf("%+v", c)
	}
	public, _, err := Addresses([]string{"SSE_LISTEN=unix:/run/sse.sock", "SSE_ADMIN_LISTEN=off"}, nil)
	if public != "unix:/run/sse.sock" || err != nil {
		t.Errorf("%s, %v", public, err)
	}
	for environ, want := range map[string]string{
		"SSE_LISTEN=unix:run/sse.sock":                `SSE_LISTEN: "unix:run/sse.sock" does not name a Unix socket by its absolute path, of at most 107 bytes; write such as unix:/run/sidestream/sse.sock`,
		"SSE_LISTEN=unix:":                            `SSE_LISTEN: "unix:" does not name`,
		"SSE_LISTEN=unix:/run/sse.sock:80":            `SSE_LISTEN: "unix:/run/sse.sock:80" does not name`,
		"SSE_LISTEN=unix:///run/{x}":                  `SSE_LISTEN: "unix:///run/{x}" does not name`,
		"SSE_LISTEN_MODE=0600":                        `SSE_LISTEN_MODE: has no effect, as SSE_LISTEN is no Unix socket; unset it`,
		"SSE_LISTEN_MODE=rw":                          `SSE_LISTEN_MODE: "rw" is no permissions in octal; write such as 0660`,
		"SSE_LISTEN_MODE=01777":                       `SSE_LISTEN_MODE: "01777" is no permissions in octal; write such as 0660`,
		"SSE_TRUSTED_PROXIES=unix":                    `SSE_TRUSTED_PROXIES: unix has no effect, as SSE_LISTEN is no Unix socket; leave it out`,
		"SSE_LISTEN=unix:/x SSE_MAX_CLIENTS_PER_IP=1": `SSE_MAX_CLIENTS_PER_IP: has no effect, as clients over the Unix socket of SSE_LISTEN have no address; add unix to SSE_TRUSTED_PROXIES`,
	} {
		if _, err := Load(append(base[:len(base):len(base)], strings.Fields(environ)...), files(nil)); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", environ, err)
		}
	}
}

// TestTLSOfHello: a request in the opening may be over TLS where FROM is not.
func TestTLSOfHello(t *testing.T) {
	for hello, want := range map[string]bool{"@ https://legacy/auth": true, "@ http://legacy/auth": false, "> https://legacy/auth": false} {
		_, err := Load([]string{"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=ws://legacy/b", "SSE_ROUTE_B_UPSTREAM_NAME=legacy.internal", "SSE_ROUTE_B_HELLO=" + hello}, files(keyFiles()))
		if want != (err == nil) {
			t.Errorf("%s: %v", hello, err)
		}
	}
}
