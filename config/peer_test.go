package config

import (
	"reflect"
	"strings"
	"testing"

	"sidestream/proxy/history/redis"
	"sidestream/proxy/peer"
	"sidestream/proxy/redisconn"
)

const peerSecret = "hidden0123456789"

// peers reads the settings of replicas as [Load] does. It is without the rest, as a history that they share has settings of its own.
func peers(environ ...string) (*peer.Settings, error) {
	l := loader{readFile: files(map[string]string{"/run/secret": peerSecret + "\n"})}
	vs, _ := l.read(append([]string{"SSE_HISTORY=redis://redis:6379"}, environ...))
	g := parse[globals](&l, globalFields, vs)
	p := l.peer(vs, g)
	l.checkPeerListen(vs, g, p)
	return p, l.problems.err()
}

func TestPeer(t *testing.T) {
	if p, err := peers(); p != nil || err != nil {
		t.Errorf("%+v, %v", p, err)
	}
	for _, c := range []struct {
		environ []string
		want    peer.Settings
	}{
		{[]string{"SSE_PEER=http://10.1.2.3:9092", "SSE_PEER_SECRET=" + peerSecret}, peer.Settings{URL: "http://10.1.2.3:9092", Listen: ":9092", Secrets: []string{peerSecret}}},
		{[]string{"SSE_PEER=http://[2001:db8::1]", "SSE_PEER_SECRET_FILE=/run/secret"}, peer.Settings{URL: "http://[2001:db8::1]", Listen: ":80", Secrets: []string{peerSecret}}},
		{[]string{"SSE_PEER=https://a.example", "SSE_PEER_LISTEN=127.0.0.1:9099", "SSE_TLS_CERT=c", "SSE_PEER_SECRET=" + peerSecret + " , another" + peerSecret},
			peer.Settings{URL: "https://a.example", Listen: "127.0.0.1:9099", Secrets: []string{peerSecret, "another" + peerSecret}}},
	} {
		if p, err := peers(c.environ...); err != nil || !reflect.DeepEqual(*p, c.want) {
			t.Errorf("%q: %+v, %v", c.environ, p, err)
		}
	}
}

// The store is told this replica's address, for the others to find it.
func TestPeerIsTold(t *testing.T) {
	c := load(t, append(base, "SSE_HISTORY=redis://redis", "SSE_PEER=http://10.1.2.3:9092", "SSE_PEER_SECRET="+peerSecret)...)
	if s, ok := c.History.(redis.Settings); !ok || s.Peer != "http://10.1.2.3:9092" || c.Peer == nil || !c.shared() {
		t.Errorf("%+v", c.History)
	}
	if c := load(t, append(base, "SSE_HISTORY=redis://redis")...); c.History.(redis.Settings).Peer != "" || c.Peer != nil {
		t.Errorf("%+v", c.History)
	}
}

func TestPeerProblems(t *testing.T) {
	const own, write = "SSE_PEER=http://10.1.2.3:9092", "; set it to this replica's address for the others, such as http://10.1.2.3:9092"
	secret := "SSE_PEER_SECRET=" + peerSecret
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{[]string{own}, "SSE_PEER_SECRET: missing while SSE_PEER is set; set it to at least 16 bytes chosen at random, the same for all replicas, such as the output of openssl rand -hex 32"},
		{[]string{secret}, "SSE_PEER: missing while SSE_PEER_SECRET is set" + write + ", or unset both"},
		{[]string{"SSE_PEER_SECRET_FILE=/run/secret"}, "SSE_PEER: missing while SSE_PEER_SECRET_FILE is set" + write + ", or unset both"},
		{[]string{"SSE_PEER_LISTEN=:9092"}, "SSE_PEER: missing while SSE_PEER_LISTEN is set" + write + ", or unset both"},
		{[]string{own, "SSE_PEER_SECRET=" + peerSecret + ",hiddenshort"}, "SSE_PEER_SECRET: holds a secret of less than 16 bytes, which could be guessed; use the output of openssl rand -hex 32"},
		{[]string{"SSE_PEER=10.1.2.3:9092", secret}, "SSE_PEER: is not a URL" + write},
		{[]string{"SSE_PEER=redis://10.1.2.3:9092", secret}, "SSE_PEER: does not begin with http:// or https://" + write},
		{[]string{"SSE_PEER=http://u:hidden@h:1", secret}, "SSE_PEER: contains a user name or password; leave it out, replicas know each other by SSE_PEER_SECRET" + write},
		{[]string{"SSE_PEER=http://:9092", secret}, "SSE_PEER: names no host" + write},
		{[]string{"SSE_PEER=http://h:0", secret}, "SSE_PEER: has no port number from 1 to 65535" + write},
		{[]string{"SSE_PEER=http://h:1/x", secret}, `SSE_PEER: "http://h:1/x" is more than an address; leave out everything after the port` + write},
		{[]string{"SSE_PEER=http://h:1?", secret}, `SSE_PEER: "http://h:1?" is more than an address; leave out everything after the port` + write},
		{[]string{"SSE_PEER=http://[::]:9092", secret}, `SSE_PEER: "http://[::]:9092" is every address of this machine, and none that others could connect to` + write},
		{[]string{"SSE_PEER=https://h", secret}, "SSE_TLS_CERT: missing while SSE_PEER begins with https://; set it and SSE_TLS_KEY to a certificate for that host, or write http://"},
		{[]string{"SSE_PEER=http://h:8080", secret}, `SSE_PEER: ":8080" uses the same port as SSE_LISTEN, ":8080"; give one of them another port`},
		{[]string{own, "SSE_PEER_LISTEN=:9091", secret}, `SSE_PEER_LISTEN: ":9091" uses the same port as SSE_ADMIN_LISTEN, "127.0.0.1:9091"; give one of them another port`},
		{[]string{own, "SSE_PEER_LISTEN=9092", secret}, `SSE_PEER_LISTEN: "9092" is not host:port; write :9092`},
	} {
		_, err := peers(c.environ...)
		if err == nil || strings.TrimSpace(err.Error()) != c.want && !strings.HasSuffix(strings.TrimSpace(err.Error()), "\n  "+c.want) {
			t.Errorf("%q: %v\nwant %s", c.environ, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
	for _, kept := range []string{"memory", "file:/var/lib/sidestream"} {
		_, err := Load(append(base[:len(base):len(base)], "SSE_HISTORY="+kept, own, secret), ReadFile)
		if err == nil || !strings.Contains(err.Error(), "SSE_PEER: only replicas that share a history have peers; set SSE_HISTORY to a Redis, such as redis://redis:6379, or unset SSE_PEER") {
			t.Errorf("%s: %v", kept, err)
		}
	}
}

// check tells whether messages and pages reach their replica.
func TestCheckPeer(t *testing.T) {
	c := load(t, "SSE_UPSTREAM=http://legacy", "SSE_TUNNEL=/socket", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://h", "SSE_ROUTE_A_SEND=true",
		"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=ws://h", "SSE_ROUTE_B_SEND=true", "SSE_ROUTE_B_HISTORY=memory")
	check := func(want ...string) {
		t.Helper()
		var out strings.Builder
		if err := c.Check(&out); err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(out.String(), line+"\n") {
				t.Errorf("%q is not in\n%s", line, out.String())
			}
		}
	}
	check("over /_sidestream/tunnel", "one message upstream")
	c.History = redis.Settings{Address: redisconn.Address{Addresses: []string{"redis:6379"}}}
	check("tunnel; a page has to stay on one replica: set SSE_PEER, or keep each client on one",
		"one message upstream, where this replica holds the stream: set SSE_PEER, or keep each client on one replica",
		"one message upstream, where this replica has the stream (HISTORY=memory): keep each client on one replica")
	c.Peer = &peer.Settings{URL: "http://10.1.2.3:9092", Listen: ":9092", Secrets: []string{peerSecret}}
	check("peer     http://10.1.2.3:9092, listening on :9092",
		"tunnel; any replica passes on what is for a page of another one",
		"one message upstream, by whichever replica holds the stream",
		"one message upstream, where this replica has the stream (HISTORY=memory): keep each client on one replica")
}
