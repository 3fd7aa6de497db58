package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"sidestream/translate/dialect"
)

// Each case adds variables to two routes that are right, and tells the whole error.
func TestProblems(t *testing.T) {
	cases := []struct {
		name    string
		environ []string
		want    []string
	}{
		// values
		{"duration without unit", []string{"SSE_HEARTBEAT=15"}, []string{`SSE_HEARTBEAT: "15" is not a duration; write 15s`}},
		{"duration in words", []string{"SSE_ROUTE_FEED_IDLE=5 minutes"}, []string{`SSE_ROUTE_FEED_IDLE: "5 minutes" is not a duration; write 5m`}},
		{"no duration", []string{"SSE_DRAIN=2 days"}, []string{`SSE_DRAIN: "2 days" is not a duration; write a number with its unit, such as 500ms, 15s or 2m`}},
		{"negative duration", []string{"SSE_IDLE=-1s"}, []string{`SSE_IDLE: "-1s" is negative; write 0 or off for none`}},
		{"too small", []string{"SSE_HEARTBEAT=1us"}, []string{`SSE_HEARTBEAT: "1us" is out of bounds; write 10ms to 24h, or 0 for none`}},
		{"rhythm without unit", []string{"SSE_ROUTE_FEED_PING_EVERY=30"}, []string{`SSE_ROUTE_FEED_PING_EVERY: "30" is not a duration; write 30s`}},
		{"rhythm out of bounds", []string{"SSE_ROUTE_FEED_PING_EVERY=25h"}, []string{`SSE_ROUTE_FEED_PING_EVERY: "25h" is out of bounds; write 10ms to 24h, or 0 for none`}},
		{"program without state", []string{"SSE_ROUTE_FEED_PING_EVERY=state.every"}, []string{`SSE_ROUTE_FEED_PING_EVERY: a program computes from $state how often PING is sent; set PING and STATE too, or write a duration such as 30s`}},
		{"ticket of a poll", []string{"SSE_ROUTE_POLL_TICKET=http://h/"}, []string{`SSE_ROUTE_POLL_TICKET: has no effect here: it is for WebSockets, and FROM is an HTTP URL; unset it`}},
		{"retry 0", []string{"SSE_RETRY=0"}, []string{`SSE_RETRY: "0" is out of bounds; write 1ms to 24h; it cannot be turned off`}},
		{"retry long", []string{"SSE_RETRY=25h"}, []string{`SSE_RETRY: "25h" is out of bounds; write 1ms to 24h; it cannot be turned off`}},
		{"replay 0", []string{"SSE_REPLAY_EVENTS=off"}, []string{`SSE_REPLAY_EVENTS: "off" is out of bounds; write 1 to 16777216; it cannot be turned off`}},
		{"unbounded message", []string{"SSE_ROUTE_FEED_MAX_MESSAGE=0"}, []string{`SSE_ROUTE_FEED_MAX_MESSAGE: "0" is out of bounds; write 1 to 1GiB; it cannot be turned off`}},
		{"huge message", []string{"SSE_MAX_MESSAGE=1025MiB"}, []string{`SSE_MAX_MESSAGE: "1025MiB" is out of bounds; write 1 to 1GiB; it cannot be turned off`}},
		{"size", []string{"SSE_REPLAY_BYTES=4MB"}, []string{`SSE_REPLAY_BYTES: "4MB" is not a size; write bytes or KiB, MiB, GiB, such as 65536 or 4MiB`}},
		{"negative size", []string{"SSE_REPLAY_BYTES=-4KiB"}, []string{`SSE_REPLAY_BYTES: "-4KiB" is negative; write a size such as 4MiB`}},
		{"size overflow", []string{"SSE_REPLAY_BYTES=9223372036854775807GiB"}, []string{`SSE_REPLAY_BYTES: "9223372036854775807GiB" is larger than any memory; write a size such as 4MiB`}},
		{"count", []string{"SSE_MAX_CLIENTS=many"}, []string{`SSE_MAX_CLIENTS: "many" is not a number; write digits only, such as 1000`}},
		{"negative count", []string{"SSE_ROUTE_FEED_MAX_STREAMS=-1"}, []string{`SSE_ROUTE_FEED_MAX_STREAMS: "-1" is negative; write a number such as 1000`}},
		{"toggle", []string{"SSE_ROUTE_FEED_EAGER=yes"}, []string{`SSE_ROUTE_FEED_EAGER: "yes" is neither true nor false; write true or false`}},
		{"start", []string{"SSE_START=-1"}, []string{`SSE_START: "-1" is not a place to start; write live, latest, all or a number of events`}},
		{"level", []string{"SSE_LOG_LEVEL=warning"}, []string{`SSE_LOG_LEVEL: "warning" is none of debug, info, warn, error; write warn`}},
		{"format", []string{"SSE_LOG_FORMAT=JSON"}, []string{`SSE_LOG_FORMAT: "JSON" is none of auto, text, json; write auto`}},
		{"mode", []string{"SSE_ROUTE_POLL_MODE=change"}, []string{`SSE_ROUTE_POLL_MODE: "change" is none of changes, every, items, patch, stream; write changes`}},
		{"decode", []string{"SSE_ROUTE_FEED_DECODE=gzip,bson"}, []string{`SSE_ROUTE_FEED_DECODE: "bson" is not known; write gzip, deflate, zlib, msgpack or cbor, or several in the order in which they are undone, such as zlib,msgpack`}},
		{"decode and drop", []string{"SSE_ROUTE_FEED_DECODE=gzip", "SSE_ROUTE_FEED_BINARY=drop"}, []string{"SSE_ROUTE_FEED_DECODE: decodes binary messages, and BINARY=drop drops them; unset BINARY"}},
		{"binary", []string{"SSE_ROUTE_FEED_BINARY=hex"}, []string{`SSE_ROUTE_FEED_BINARY: "hex" is none of base64, text, drop; write text`}},
		{"long value", []string{"SSE_MAX_CLIENTS=" + strings.Repeat("9", 99)}, []string{`SSE_MAX_CLIENTS: "` + strings.Repeat("9", 60) + `"... is not a number; write digits only, such as 1000`}},
		// names
		{"unknown global", []string{"SSE_LISTN=:80"}, []string{`SSE_LISTN: unknown; the nearest known variable is SSE_LISTEN`}},
		{"unknown setting", []string{"SSE_ROUTE_FEED_RPELAY_EVENTS=5"}, []string{`SSE_ROUTE_FEED_RPELAY_EVENTS: unknown; the nearest known variable is SSE_ROUTE_FEED_REPLAY_EVENTS`}},
		{"unknown file", []string{"SSE_ROUTE_FEED_HEADER_FILE=5"}, []string{`SSE_ROUTE_FEED_HEADER_FILE: unknown; the nearest known variable is SSE_ROUTE_FEED_HEADERS_FILE`}},
		{"route setting as global", []string{"SSE_PATH=/x"}, []string{`SSE_PATH: unknown; the nearest known variable is SSE_ROUTE_<NAME>_PATH`}},
		{"route without name", []string{"SSE_ROUTE_PATH=/x"}, []string{`SSE_ROUTE_PATH: unknown; the nearest known variable is SSE_ROUTE_<NAME>_PATH`}},
		{"route without setting", []string{"SSE_ROUTE_FEED=/x"}, []string{`SSE_ROUTE_FEED: unknown; the nearest known variable is SSE_ROUTE_FEED_PATH`}},
		{"global as route setting", []string{"SSE_ROUTE_FEED_LISTEN=:80"}, []string{`SSE_ROUTE_FEED_LISTEN: unknown; the nearest known variable is SSE_LISTEN`}},
		{"underscore in name", []string{"SSE_ROUTE_MY_FEED_REPLAY_AGE=1s"}, []string{`SSE_ROUTE_MY_FEED_REPLAY_AGE: unknown; the nearest known variable is SSE_ROUTE_MYFEED_REPLAY_AGE`}},
		{"lower-case name", []string{"SSE_ROUTE_prices_PATH=/x"}, []string{`SSE_ROUTE_prices_PATH: unknown; the nearest known variable is SSE_ROUTE_PRICES_PATH`}},
		{"misspelt prefix", []string{"SSE_ROUTES_FEED_PATH=/x"}, []string{`SSE_ROUTES_FEED_PATH: unknown; the nearest known variable is SSE_ROUTE_FEED_PATH`}},
		{"port that Kubernetes did not set", []string{"SSE_PORT=8080"}, []string{`SSE_PORT: unknown; the nearest known variable is SSE_PEER`}},
		{"twice", []string{"SSE_RETRY=1s", "SSE_RETRY=2s"}, []string{`SSE_RETRY: set twice; keep one`}},
		// files
		{"both", []string{"SSE_ROUTE_FEED_HEADERS=secret", "SSE_ROUTE_FEED_HEADERS_FILE=secret"}, []string{`SSE_ROUTE_FEED_HEADERS: both it and SSE_ROUTE_FEED_HEADERS_FILE are set; keep one`}},
		{"unreadable", []string{"SSE_ROUTE_FEED_HEADERS_FILE=/run/secret"}, []string{`SSE_ROUTE_FEED_HEADERS_FILE: cannot be read: file does not exist; give the path of a readable file`}},
		{"the wrong file", []string{"SSE_HEARTBEAT_FILE=secret"}, []string{`SSE_HEARTBEAT_FILE: the file's text is not a duration; write a number with its unit, such as 500ms, 15s or 2m`}},
		// addresses
		{"port only", []string{"SSE_LISTEN=8080"}, []string{`SSE_LISTEN: "8080" is not host:port; write :8080`}},
		{"no port", []string{"SSE_LISTEN=localhost"}, []string{`SSE_LISTEN: "localhost" is not host:port; write :8080 or 127.0.0.1:8080`}},
		{"itself", []string{"SSE_UPSTREAM=http://localhost:8080/"}, []string{`SSE_UPSTREAM: is where the sidecar listens itself (SSE_LISTEN), so that a request would go round in circles; write the service's own address`}},
		{"quotes", []string{`SSE_UPSTREAM="http://localhost:3000"`}, []string{`SSE_UPSTREAM: is in quotes, which are part of the value here; leave them out`}},
		{"short admin token", []string{"SSE_ADMIN_TOKEN=hunter2"}, []string{`SSE_ADMIN_TOKEN: is shorter than 16 bytes, or holds blanks or letters beyond ASCII; write one such as openssl rand -hex 16 makes`}},
		{"port in words", []string{"SSE_ADMIN_LISTEN=localhost:http"}, []string{`SSE_ADMIN_LISTEN: "localhost:http" has no port number from 0 to 65535; write one, such as localhost:8080`}},
		{"address with path", []string{"SSE_LISTEN=//localhost:80"}, []string{`SSE_LISTEN: "//localhost:80" is not host:port; write an address without scheme and path, such as :80`}},
		{"same address", []string{"SSE_LISTEN=:9091"}, []string{`SSE_ADMIN_LISTEN: "127.0.0.1:9091" uses the same port as SSE_LISTEN, ":9091"; give one of them another port`}},
		// the legacy service
		{"upstream ws", []string{"SSE_UPSTREAM=wss://legacy"}, []string{`SSE_UPSTREAM: is a WebSocket URL; write https:// instead of wss:// (WebSockets pass through as well)`}},
		{"upstream without scheme", []string{"SSE_UPSTREAM=legacy:3000"}, []string{`SSE_UPSTREAM: does not begin with http:// or https://; write the service's base URL, such as http://localhost:3000`}},
		{"upstream userinfo", []string{"SSE_UPSTREAM=http://u:secret@legacy"}, []string{`SSE_UPSTREAM: contains a user name or password; leave it out, requests that are passed through bring their own credentials; write the service's base URL, such as http://localhost:3000`}},
		{"upstream query", []string{"SSE_UPSTREAM=http://legacy?secret"}, []string{`SSE_UPSTREAM: contains a query; leave out everything from ? on; write the service's base URL, such as http://localhost:3000`}},
		{"upstream fragment", []string{"SSE_UPSTREAM=http://legacy#"}, []string{`SSE_UPSTREAM: contains a fragment; leave out everything from # on; write the service's base URL, such as http://localhost:3000`}},
		{"upstream without host", []string{"SSE_UPSTREAM=http:///x"}, []string{`SSE_UPSTREAM: names no host; write the service's base URL, such as http://localhost:3000`}},
		{"upstream port", []string{"SSE_UPSTREAM=http://legacy:99999"}, []string{`SSE_UPSTREAM: has no port number from 1 to 65535; write the service's base URL, such as http://localhost:3000`}},
		{"upstream nonsense", []string{"SSE_UPSTREAM=http://legacy:secret@a:b"}, []string{`SSE_UPSTREAM: is not a URL; write the service's base URL, such as http://localhost:3000`}},
		// origins
		{"origin pattern", []string{"SSE_CORS_ORIGINS=https://*.a.com"}, []string{`SSE_CORS_ORIGINS: "https://*.a.com" is a pattern; list each origin in full, since any page of an allowed origin acts with its visitors' cookies`}},
		{"origin without scheme", []string{"SSE_CORS_ORIGINS=a.com"}, []string{`SSE_CORS_ORIGINS: "a.com" is not an origin; write scheme and host, such as https://app.example.com`}},
		{"origin with path", []string{"SSE_CORS_ORIGINS=https://a.com/,https://b.com"}, []string{`SSE_CORS_ORIGINS: "https://a.com/" is more than an origin; write https://a.com`}},
		{"origin with password", []string{"SSE_CORS_ORIGINS=https://u:secret@a.com"}, []string{`SSE_CORS_ORIGINS: "a.com" is more than an origin; write https://a.com`}},
		{"origin in Unicode", []string{"SSE_CORS_ORIGINS=https://bücher.de"}, []string{`SSE_CORS_ORIGINS: "https://bücher.de" is not spelled as browsers send it; write the host in its xn-- form`}},
		// proxies
		{"a proxy's name", []string{"SSE_TRUSTED_PROXIES=proxy.local"}, []string{`SSE_TRUSTED_PROXIES: "proxy.local" is no address and no network; write such as 10.0.0.0/8, 192.0.2.7 or fd00::/8`}},
		{"everybody", []string{"SSE_TRUSTED_PROXIES=10.0.0.0/8, 0.0.0.0/0"}, []string{`SSE_TRUSTED_PROXIES: "0.0.0.0/0" is everybody, who could then say that he is anybody; write the networks of the proxies in front`}},
		// across settings
		{"no path, no from", []string{"SSE_ROUTE_A_SELECT=.x"}, []string{
			`SSE_ROUTE_A_FROM: required; write where the events come from, such as ws://localhost:3000/feed or http://localhost:3000/status`,
			`SSE_ROUTE_A_PATH: required; write the path that browsers will ask for, such as /prices`}},
		{"from", []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=tcp://secret"}, []string{`SSE_ROUTE_A_FROM: does not begin with ws://, wss://, http://, https:// or redis://; write the whole URL, such as ws://localhost:3000/feed`}},
		{"linger", []string{"SSE_ROUTE_FEED_LINGER=6s"}, []string{`SSE_ROUTE_FEED_LINGER: LINGER 6s does not exceed 2×RETRY, 6s: clients would return after their stream has ended; set LINGER above 6s or RETRY below 3s`}},
		{"linger none", []string{"SSE_LINGER=off"}, []string{`SSE_LINGER: LINGER 0s does not exceed 2×RETRY, 6s: clients would return after their stream has ended; set LINGER above 6s`}},
		{"retry", []string{"SSE_RETRY=15s", "SSE_ROUTE_FEED_EAGER=true"}, []string{`SSE_RETRY: LINGER 30s does not exceed 2×RETRY, 30s: clients would return after their stream has ended; set LINGER above 30s or RETRY below 15s`}},
		{"eager", []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://legacy/{query.x}", "SSE_ROUTE_A_EAGER=true"}, []string{
			`SSE_ROUTE_A_EAGER: the route uses the client's request (a placeholder, FORWARD or SCOPE=session), so nothing can start before a client asks; unset EAGER, or remove these`}},
		{"ws settings on a poll", []string{"SSE_ROUTE_POLL_HELLO=x", "SSE_ROUTE_POLL_PING=x", "SSE_ROUTE_POLL_IDLE=1s"}, []string{
			`SSE_ROUTE_POLL_HELLO: has no effect here: it is for WebSockets, and FROM is an HTTP URL; unset it`,
			`SSE_ROUTE_POLL_IDLE: has no effect here: it is for WebSockets, and FROM is an HTTP URL; unset it`,
			`SSE_ROUTE_POLL_PING: has no effect here: it is for WebSockets, and FROM is an HTTP URL; unset it`}},
		{"poll settings on a ws", []string{"SSE_ROUTE_FEED_EVERY=1s", "SSE_ROUTE_FEED_BODY=x"}, []string{
			`SSE_ROUTE_FEED_BODY: has no effect here: it is for polls, and FROM is a WebSocket URL; unset it`,
			`SSE_ROUTE_FEED_EVERY: has no effect here: it is for polls, and FROM is a WebSocket URL; unset it`}},
		{"what a Redis has not", []string{"SSE_ROUTE_R_PATH=/r", "SSE_ROUTE_R_FROM=redis://u:secret@redis?channel=a", "SSE_ROUTE_R_HELLO=x", "SSE_ROUTE_R_PROTOCOL=stomp", "SSE_ROUTE_R_METHOD=get",
			"SSE_ROUTE_R_BODY=x", "SSE_ROUTE_R_EVERY=1s", "SSE_ROUTE_R_HEADERS=A: b", "SSE_ROUTE_R_FORWARD=Cookie", "SSE_ROUTE_R_STATUS=404=retry", "SSE_ROUTE_R_SEND=true", "SSE_ROUTE_R_MODE=stream",
			"SSE_ROUTE_R_CURSOR=.id", "SSE_ROUTE_R_IDLE=1s", "SSE_ROUTE_R_BINARY=text", "SSE_ROUTE_R_SELECT=.x"}, []string{
			`SSE_ROUTE_R_BODY: has no effect here: it is for polls, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_CURSOR: has no effect here: it is for polls, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_EVERY: has no effect here: it is for polls, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_FORWARD: has no effect here: it is for WebSockets and HTTP, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_HEADERS: has no effect here: it is for WebSockets and HTTP, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_HELLO: has no effect here: it is for WebSockets, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_METHOD: has no effect here: it is for polls, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_MODE: has no effect here: it is for polls, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_PROTOCOL: has no effect here: it is for WebSockets and HTTP, and FROM is a Redis; unset it`,
			`SSE_ROUTE_R_SEND: has no effect here: what is read at a Redis cannot be sent to; begin FROM with ws:// or wss://, or unset SEND`,
			`SSE_ROUTE_R_STATUS: has no effect here: it is for WebSockets and HTTP, and FROM is a Redis; unset it`}},
		{"TLS with a Redis that has none", []string{"SSE_ROUTE_R_PATH=/r", "SSE_ROUTE_R_FROM=redis://u:secret@redis?channel=a", "SSE_ROUTE_R_UPSTREAM_NAME=x"}, []string{
			`SSE_ROUTE_R_UPSTREAM_NAME: has no effect, as FROM is without TLS; begin FROM with wss://, https:// or rediss://, or unset it`}},
		{"a Redis without what to read", []string{"SSE_ROUTE_R_PATH=/r", "SSE_ROUTE_R_FROM=redis://u:secret@redis"}, []string{
			`SSE_ROUTE_R_FROM: does not say what to read; write ?channel=NAME, ?pattern=PATTERN or ?stream=KEY after the address, several with & between them`}},
		{"a Redis at the client's will", []string{"SSE_ROUTE_R_PATH=/r", "SSE_ROUTE_R_FROM=redis://{query.host}?channel=a"}, []string{
			`SSE_ROUTE_R_FROM: {query.host} is not allowed here; in the address of a Redis a placeholder may be used in the value of channel, pattern or stream only`}},
		{"sending to a poll", []string{"SSE_ROUTE_FEED_SEND=maybe", "SSE_ROUTE_POLL_SEND=true"}, []string{
			`SSE_ROUTE_FEED_SEND: "maybe" is neither true nor false; write true or false`,
			`SSE_ROUTE_POLL_SEND: a poll cannot send; begin FROM with ws:// or wss://, or unset SEND`}},
		{"tunnel", []string{"SSE_UPSTREAM=http://legacy", "SSE_TUNNEL=socket,http://x/y,/a/../b,//c,/d?e,/f/*,/ok,/ok/", "SSE_LINGER=2s", "SSE_RETRY=900ms"}, []string{
			`SSE_TUNNEL: "socket" does not begin with /; write a path, such as /socket`,
			`SSE_TUNNEL: "http://x/y" is a URL; write its path only, such as /socket`,
			`SSE_TUNNEL: "/a/../b" is not a clean path; leave out doubled slashes, . and ..`,
			`SSE_TUNNEL: "//c" is not a clean path; leave out doubled slashes, . and ..`,
			`SSE_TUNNEL: "/d?e" contains characters that a path prefix cannot; write a path, such as /socket, which covers everything below it too`,
			`SSE_TUNNEL: "/f/*" contains characters that a path prefix cannot; write a path, such as /socket, which covers everything below it too`}},
		{"learning without upstream", []string{"SSE_LEARN=true", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=http://legacy"}, []string{
			`SSE_LEARN: learns from what is passed through, and SSE_UPSTREAM is not set; set it to your service's base URL, or unset SSE_LEARN`}},
		{"tunnel without upstream", []string{"SSE_TUNNEL=/"}, []string{
			`SSE_TUNNEL: needs SSE_UPSTREAM, where the WebSockets are; set it to your service's base URL, such as http://localhost:3000`}},
		{"tunnel with upstream off", []string{"SSE_TUNNEL=/", "SSE_UPSTREAM=off"}, []string{
			`SSE_TUNNEL: needs SSE_UPSTREAM, where the WebSockets are; set it to your service's base URL, such as http://localhost:3000`}},
		{"an eager session", []string{"SSE_ROUTE_FEED_SCOPE=session", "SSE_ROUTE_FEED_EAGER=true", "SSE_ROUTE_POLL_SCOPE=user"}, []string{
			`SSE_ROUTE_FEED_EAGER: the route uses the client's request (a placeholder, FORWARD or SCOPE=session), so nothing can start before a client asks; unset EAGER, or remove these`,
			`SSE_ROUTE_POLL_SCOPE: "user" is none of request, session, run; write run`}},
		{"no protocol", []string{"SSE_ROUTE_FEED_PROTOCOL=soap"}, []string{`SSE_ROUTE_FEED_PROTOCOL: "soap" is not a dialect; write one of ` + dialects() + `, or sockjs+ and one of them, such as sockjs+stomp`}},
		{"dialect settings of raw", []string{"SSE_ROUTE_FEED_CONNECT=secret", "SSE_ROUTE_FEED_SUBSCRIBE=x"}, []string{
			`SSE_ROUTE_FEED_CONNECT: raw has no connection payload; unset it`,
			`SSE_ROUTE_FEED_SUBSCRIBE: raw has no subscriptions of its own; unset it, and write what to send in HELLO`}},
		{"cursor alone", []string{"SSE_ROUTE_POLL_CURSOR=.next"}, []string{`SSE_ROUTE_POLL_CURSOR: is set, but nothing uses it; write {stream.cursor} in FROM, BODY or HEADERS`}},
		{"settings of a cursor", []string{"SSE_ROUTE_POLL_RESET=.gone", "SSE_ROUTE_POLL_FIRST=http://legacy/"}, []string{
			`SSE_ROUTE_POLL_FIRST: is for a poll with a CURSOR; set that, or unset it`, `SSE_ROUTE_POLL_RESET: is for a poll with a CURSOR; set that, or unset it`}},
		{"polls' settings of a stream", []string{"SSE_ROUTE_POLL_MODE=stream", "SSE_ROUTE_POLL_EVERY=1s", "SSE_ROUTE_POLL_IDLE=1s", "SSE_ROUTE_POLL_PAGES=3", "SSE_ROUTE_POLL_HELLO=x"}, []string{
			`SSE_ROUTE_POLL_EVERY: has no effect here: it is for polls, and MODE is stream; unset it`,
			`SSE_ROUTE_POLL_HELLO: has no effect here: it is for WebSockets, and FROM is an HTTP URL; unset it`,
			`SSE_ROUTE_POLL_MODE: stream reads one answer that never ends; unset PAGES, NEXT and INTERVAL`}},
		{"a stream's settings of others", []string{"SSE_ROUTE_POLL_FORMAT=sse", "SSE_ROUTE_FEED_FORMAT=json"}, []string{
			`SSE_ROUTE_FEED_FORMAT: has no effect here: it is for MODE=stream; unset it`,
			`SSE_ROUTE_POLL_FORMAT: has no effect here: it is for MODE=stream; unset it`}},
		{"patches of events", []string{"SSE_ROUTE_POLL_MODE=patch", "SSE_ROUTE_POLL_EVENT=.x", "SSE_ROUTE_POLL_PAGES=2"}, []string{
			`SSE_ROUTE_POLL_EVENT: has no effect with MODE=patch, whose events are called snapshot and patch; unset it`,
			`SSE_ROUTE_POLL_MODE: patch compares whole documents, which come neither in pages nor with a CURSOR; unset PAGES, NEXT and CURSOR`}},
	}
	read := files(map[string]string{"secret": "secret"})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(append(c.environ, base...), read)
			sameProblems(t, err, c.want)
		})
	}
}

func sameProblems(t *testing.T, err error, want []string) {
	t.Helper()
	list, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error %v, want %q", err, want)
	}
	if got := list.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if strings.Contains(list.Error(), "secret") {
		t.Error("a secret is shown")
	}
}

func TestPathProblems(t *testing.T) {
	cases := map[string]string{
		"GET /x":            `"GET /x" names a method; write only /x`,
		"/a b":              `"/a b" contains a space; write %20, or leave it out`,
		"http://h/x":        `"http://h/x" is a URL; write its path only, such as /prices`,
		"host/x":            `"host/x" does not begin with /; write a path without host, such as /host`,
		"/x?y={z}":          `"/x?y={z}" contains ? or #; write the path only ({query.NAME} in FROM takes a client's parameter)`,
		"/_sidestream/x":    `"/_sidestream/x" is under /_sidestream/, which the sidecar serves itself; choose another path`,
		"/_sidestream":      `"/_sidestream" is under /_sidestream/, which the sidecar serves itself; choose another path`,
		"//x":               `"//x" can never match, since only clean paths reach a route; write "/x"`,
		"/a/../b":           `"/a/../b" can never match, since only clean paths reach a route; write "/b"`,
		"/a/./b/":           `"/a/./b/" can never match, since only clean paths reach a route; write "/a/b"`,
		"/jobs/{id":         `"/jobs/{id" is not a net/http pattern; write each wildcard as a whole segment with a name of its own, such as /jobs/{id}/progress`,
		"/{a}/{a}":          `"/{a}/{a}" is not a net/http pattern; write each wildcard as a whole segment with a name of its own, such as /jobs/{id}/progress`,
		"/x-{a}":            `"/x-{a}" is not a net/http pattern; write each wildcard as a whole segment with a name of its own, such as /jobs/{id}/progress`,
		"/{a.b}":            `"/{a.b}" is not a net/http pattern; write each wildcard as a whole segment with a name of its own, such as /jobs/{id}/progress`,
		"/{rest...}/x":      `"/{rest...}/x" is not a net/http pattern; write each wildcard as a whole segment with a name of its own, such as /jobs/{id}/progress`,
		"/":                 "",
		"/{$}":              "",
		"/_sidestreams":     "",
		"/a/":               "",
		"/{a}/b/{rest...}":  "",
		"/jobs/{id}/status": "",
		"/a%20b":            "",
	}
	for pattern, want := range cases {
		if got := pathProblem(pattern); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", pattern, got, want)
		}
	}
	if got := strings.Join(wildcards("/{a}/b/{rest...}/{$}/{}/x{y}"), " "); got != "a rest" {
		t.Errorf("wildcards %q", got)
	}
}

func TestConflictsNameBoth(t *testing.T) {
	_, err := Load([]string{
		"SSE_ROUTE_A_PATH=/x/{id}", "SSE_ROUTE_A_FROM=ws://a",
		"SSE_ROUTE_B_PATH=/x/{other}", "SSE_ROUTE_B_FROM=ws://b",
		"SSE_ROUTE_C_PATH_FILE=c", "SSE_ROUTE_C_FROM=ws://c",
		"SSE_ROUTE_D_PATH=/x/special", "SSE_ROUTE_D_FROM=ws://d",
	}, files(map[string]string{"c": "/{any}/special"}))
	sameProblems(t, err, []string{
		`SSE_ROUTE_B_PATH: "/x/{other}" conflicts with "/x/{id}" of SSE_ROUTE_A_PATH: some paths match both, and neither is more specific; change one`,
		`SSE_ROUTE_C_PATH_FILE: "/{any}/special" conflicts with "/x/{id}" of SSE_ROUTE_A_PATH: some paths match both, and neither is more specific; change one`,
		`SSE_ROUTE_C_PATH_FILE: "/{any}/special" conflicts with "/x/{other}" of SSE_ROUTE_B_PATH: some paths match both, and neither is more specific; change one`,
	})
}

func TestNothingAskedFor(t *testing.T) {
	_, err := Load([]string{"SSE_LISTEN=:80", "SSE_UPSTREAM="}, files(nil))
	sameProblems(t, err, []string{"SSE_UPSTREAM: neither it nor any route is set, so there is nothing to serve; set it to your service's base URL, " +
		"such as http://localhost:3000, then add a route: SSE_ROUTE_PRICES_PATH=/prices and SSE_ROUTE_PRICES_FROM=ws://localhost:3000/feed"})
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Load([]string{
		"SSE_LISTEN=8080", "SSE_DRAIN=soon", "SSE_RETRY=0", "SSE_LINGER=1m", "SSE_BOGUS=1", "SSE_TLS_CERT=c", "SSE_UPSTREAM=ftp://x",
		"SSE_ROUTE_A_PATH=a", "SSE_ROUTE_A_FROM=ws://a", "SSE_ROUTE_A_MODE=items",
		"SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_HEADERS_FILE=none", "SSE_ROUTE_B_SCOPE=1",
	}, files(nil))
	list, _ := errors.AsType[*Error](err)
	var got []string
	for _, p := range list.Problems {
		got = append(got, p.Variable)
	}
	want := "SSE_BOGUS SSE_DRAIN SSE_LISTEN SSE_RETRY SSE_ROUTE_A_MODE SSE_ROUTE_A_PATH SSE_ROUTE_B_FROM SSE_ROUTE_B_HEADERS_FILE SSE_ROUTE_B_SCOPE SSE_TLS_KEY SSE_UPSTREAM"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %v\nwant %v\n%v", got, want, err)
	}
}

// What package upstream finds wrong is told of the variable that holds it, all of it, and once.
func TestCompilersProblems(t *testing.T) {
	_, err := Load([]string{"SSE_ROUTE_A_PATH=/a/{id}", "SSE_ROUTE_A_FROM=ws://legacy/{path.other}", "SSE_ROUTE_A_SELECT_FILE=program",
		"SSE_ROUTE_A_HELLO=< .[\n> {path.another}", "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=tcp://legacy", "SSE_ROUTE_B_MODE=odd"},
		files(map[string]string{"program": ".[\n"}))
	list, _ := errors.AsType[*Error](err)
	var got []string
	for _, p := range list.Problems {
		got = append(got, p.Variable)
	}
	want := "SSE_ROUTE_A_FROM SSE_ROUTE_A_HELLO SSE_ROUTE_A_HELLO SSE_ROUTE_A_SELECT_FILE SSE_ROUTE_B_FROM SSE_ROUTE_B_MODE"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %v\nwant %v\n%v", got, want, err)
	}
}

func TestTLS(t *testing.T) {
	cert, key := pair(t)
	_, otherKey := pair(t)
	read := files(map[string]string{"cert": cert, "key": key, "other": otherKey, "path": "key\n", "text": "secret"})
	good := [][]string{{"SSE_TLS_CERT=cert", "SSE_TLS_KEY=key"}, {"SSE_TLS_CERT=cert", "SSE_TLS_KEY_FILE=path"}}
	for _, environ := range good {
		if c, err := Load(append(environ, base...), read); err != nil || c.TLSCert != "cert" || c.TLSKey != "key" {
			t.Errorf("%v: %v", environ, err)
		}
	}
	bad := []struct {
		environ []string
		want    string
	}{
		{[]string{"SSE_TLS_CERT=cert"}, "SSE_TLS_KEY: missing while SSE_TLS_CERT is set; set it to the path of the certificate's key, or unset both"},
		{[]string{"SSE_TLS_KEY=key"}, "SSE_TLS_CERT: missing while SSE_TLS_KEY is set; set it to the path of the certificate chain, or unset both"},
		{[]string{"SSE_TLS_CERT=cert", "SSE_TLS_KEY=none"}, "SSE_TLS_KEY: the file it names cannot be read: file does not exist; give the path of a readable PEM file"},
		{[]string{"SSE_TLS_CERT=cert", "SSE_TLS_KEY=" + key}, "SSE_TLS_KEY: contains PEM text; give the path of the file instead"},
		{[]string{"SSE_TLS_CERT=cert", "SSE_TLS_KEY_FILE=key"}, "SSE_TLS_KEY_FILE: contains PEM text; give the path of the file instead: set SSE_TLS_KEY to the path you gave here"},
		{[]string{"SSE_TLS_CERT=cert", "SSE_TLS_KEY=other"}, "SSE_TLS_CERT: does not form a key pair with SSE_TLS_KEY: tls: private key does not match public key; give the PEM chain, leaf first, and its private key"},
		{[]string{"SSE_TLS_CERT=text", "SSE_TLS_KEY=key"}, "SSE_TLS_CERT: does not form a key pair with SSE_TLS_KEY: tls: failed to find any PEM data in certificate input; give the PEM chain, leaf first, and its private key"},
	}
	for _, c := range bad {
		_, err := Load(append(c.environ, base...), read)
		sameProblems(t, err, []string{c.want})
	}
}

// pair makes a self-signed certificate and its key.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func dialects() string {
	var names []string
	for _, d := range dialect.Table {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}
