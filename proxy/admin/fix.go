package admin

import (
	"regexp"
	"strings"
)

// fixes are what to do about an error of the upstream, by what its text contains, a number only as a whole; the first that fits.
var fixes = []struct{ says, do string }{
	{"forward proxy", "HTTP_PROXY or HTTPS_PROXY names a proxy that does not let this through. Name the service's host in NO_PROXY, or see to the proxy's address, password and rules: WebSockets and TLS need CONNECT."},
	{"client's certificate", "The service wants a client certificate, and another one than it is shown: look at UPSTREAM_CERT and UPSTREAM_KEY, with check, and at which authorities the service accepts."},
	{"unix /", "The service does not take connections on the Unix socket in FROM. Does it run, is its socket where the sidecar sees it, and may the sidecar's user write to it?"},
	{"unix @", "The service does not take connections on the abstract Unix socket in FROM. Does it run, and in the same network namespace?"},
	{"the Redis answered", "Ask it with redis-cli from where the sidecar runs, with the user and password in FROM. What the first word of its answer means stands in Redis' documentation."},
	{"the sentinels", "Ask a sentinel with redis-cli: SENTINEL MASTERS tells the names that it knows, and where each master is."},
	{"than Redis'", "Something else listens at that address, or TLS is wanted and FROM says redis://, or the other way round."},
	{"connection refused", "Nothing listens at that address. Is the service up, and are host and port in FROM right, as seen from the sidecar? In a container, localhost is the container itself."},
	{"no such host", "The name in FROM does not resolve where the sidecar runs. Check its spelling, and the DNS or the Compose and Kubernetes service name."},
	{"server misbehaving", "The name in FROM does not resolve at the moment. Check the DNS that the sidecar uses."},
	{"network is unreachable", "There is no way from the sidecar to that address. Check its network, and firewalls and network policies on the way."},
	{"no route to host", "There is no way from the sidecar to that address. Check its network, and firewalls and network policies on the way."},
	{"unknown authority", "The service's certificate is signed by a private authority: give its certificate in UPSTREAM_CA."},
	{"for another name", "The certificate is for another name than the one in FROM: write that name there, or the expected one in UPSTREAM_NAME."},
	{"certificate has expired", "Renew the service's certificate, and look at the sidecar's clock."},
	{"certificate", "The service's certificate does not pass. Check it with openssl s_client, from where the sidecar runs."},
	{"does not speak TLS", "FROM says wss:// or https://, but the service speaks plain text there: write ws:// or http://, or the port that has TLS."},
	{"TLS failed", "Service and sidecar do not agree on TLS. Does the service ask for a client certificate (UPSTREAM_CERT, UPSTREAM_KEY), or speak only TLS 1.1 or older?"},
	{"probably a login", "The service answers with a login page: the credentials are missing or have run out. Forward them with FORWARD, or give them in HEADERS."},
	{"401", "The service wants credentials: forward the client's with FORWARD=Cookie or Authorization, or give the sidecar's own in HEADERS. A token in a file (…_FILE) is read again when it changes."},
	{"403", "The service refuses these credentials, or the Origin: it is the service's own address unless HEADERS has another one."},
	{"404", "The service has nothing at that path. Compare FROM with the address that the old client uses; a base path is often missing."},
	{"426", "The service expects an upgrade: write ws:// or wss:// in FROM."},
	{"429", "The service limits requests: raise EVERY, or share streams by forwarding less."},
	{"another status", "The address answers, but not as a WebSocket. If it gives JSON, write http:// or https:// in FROM; otherwise compare the path with the old client's."},
	{"not that of a WebSocket", "The address answers, but not as a WebSocket. If it gives JSON, write http:// or https:// in FROM; otherwise compare the path with the old client's."},
	{"Sec-WebSocket-Protocol", "Service and sidecar do not agree on a subprotocol: set SUBPROTOCOL to the one that the old client offers."},
	{"502", "What answers is a proxy that does not reach the service. Look there."},
	{"503", "The service, or a proxy before it, says that it is not available. Look at its own log."},
	{"504", "What answers is a proxy that waits for the service in vain. Look there."},
	{"HTML", "The service answers with a page instead of data, often a login or error page: compare path and credentials with the old client's."},
	{"MAX_MESSAGE", "A message is larger than MAX_MESSAGE: raise it."},
	{"TIMEOUT", "The service takes longer to answer than TIMEOUT: raise it, or look at why the service is slow."},
	{"timed out", "The service does not answer in time. Is it overloaded, or does a firewall drop packets on the way?"},
	{"i/o timeout", "The service does not answer in time. Is it overloaded, or does a firewall drop packets on the way?"},
	{"of the opening", "The opening did not come to its end: try it with tap, and compare HELLO with what the old client sends first."},
	{"no answer within", "The service answers the opening late or not at all. Compare HELLO, CONNECT and SUBSCRIBE with what the old client sends, or raise TIMEOUT for polls."},
	{"IDLE", "Nothing came for as long as IDLE allows: raise it for a service that is often silent, or have PING keep it alive."},
	{"HELLO", "The opening did not come to its end: try it with tap, and compare HELLO with what the old client sends first."},
	{"PONG", "The service does not acknowledge pings: is PONG right? Else something on the way has cut the connection silently."},
	{"with code 1008", "The service closes with 1008, a policy: credentials or the opening are not what it expects."},
	{"with code 1009", "A message of ours was too large for the service."},
	{"with code 1013", "The service says: try again later."},
	{"with code", "The service closes the connection. CLOSE says what a code means: to retry, that the client is refused, or that the stream is finished."},
	{"connection reset", "The connection was cut by the service, or by something on the way that has an idle timeout: PING keeps it alive."},
	{"EOF", "The connection was cut by the service, or by something on the way that has an idle timeout: PING keeps it alive."},
	{"is not HTTP", "What listens there does not speak HTTP. Check the port in FROM."},
	{"JSON", "The answer is not the JSON that the route expects: compare it, with curl, to what the old client gets."},
}

// fix is what to do about an error of the upstream; never empty for one.
func fix(err string) string {
	if err == "" {
		return ""
	}
	for _, f := range fixes {
		if holds(err, f.says) {
			return f.do
		}
	}
	return "Try the route by itself: sidestream tap ROUTE shows what arrives, with SSE_LOG_LEVEL=debug all attempts."
}

// holds reports whether text holds says, a status not as a part of another number or a port.
func holds(text, says string) bool {
	if !number.MatchString(says) {
		return strings.Contains(text, says)
	}
	for rest := text; ; {
		before, after, found := strings.Cut(rest, says)
		switch {
		case !found:
			return false
		case !strings.ContainsAny(before[max(0, len(before)-1):], ":.0123456789") && !strings.ContainsAny(after[:min(len(after), 1)], "0123456789"):
			return true
		}
		rest = after
	}
}

var number = regexp.MustCompile(`^[0-9]+$`)

// gapFixes are what to do about gaps, by their reason.
var gapFixes = map[string]string{
	"upstream": "The upstream connection was lost and its protocol cannot tell what was missed. A dialect's recovery, RESUMED or CURSOR close such gaps where the service can.",
	"evicted":  "Clients come back after more than the replay buffer holds: raise REPLAY_EVENTS, REPLAY_BYTES or REPLAY_AGE.",
	"restart":  "Clients of an earlier run, whose events are gone: SSE_HISTORY keeps them over restarts.",
	"history":  "The store of SSE_HISTORY was away, or has lost events. Look at its own log, and at its disk.",
}
