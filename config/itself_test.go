package config

import (
	"net/url"
	"testing"
)

func TestIsItself(t *testing.T) {
	for _, c := range []struct {
		listen, to string
		want       bool
	}{
		{":8080", "http://localhost:8080/x", true}, {":8080", "ws://127.0.0.1:8080/x", true}, {":8080", "http://[::1]:8080", true}, {"0.0.0.0:80", "http://LOCALHOST/", true},
		{"127.0.0.1:8080", "http://localhost:8080/", true}, {"10.0.0.1:443", "wss://10.0.0.1/", true}, {":8080", "http://localhost:3000", false}, {":8080", "http://legacy:8080", false},
		{"10.0.0.1:8080", "http://localhost:8080", false}, {":8080", "http://localhost", false}, {"unix:/run/x.sock", "http://localhost:8080", false}, {":0", "http://localhost:0", false},
		{"127.0.0.1:8080", "http://[::1]:8080", false}, {"[::1]:8080", "http://127.0.0.1:8080", false}, {"0.0.0.0:8080", "http://[::1]:8080", false}, {"[::]:8080", "http://127.0.0.1:8080", true},
		{"[::1]:8080", "http://[::1]:8080", true}, {"127.0.0.1:8080", "http://0.0.0.0:8080", true},
	} {
		u, err := url.Parse(c.to)
		if err != nil {
			t.Fatal(err)
		}
		if got := isItself(c.listen, u); got != c.want {
			t.Errorf("%s and %s: %v", c.listen, c.to, got)
		}
	}
	_, err := Load([]string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://localhost:8080/{query.x:y}", "SSE_ROUTE_B_PATH=/b", `SSE_ROUTE_B_FROM='ws://localhost:3000/'`,
		"SSE_ROUTE_C_PATH=/c", "SSE_ROUTE_C_FROM=ws://localhost:3000/", `SSE_ROUTE_C_REPLY={"pong":1}`}, ReadFile)
	sameProblems(t, err, []string{
		"SSE_ROUTE_A_FROM: is where the sidecar listens itself (SSE_LISTEN), so that a request would go round in circles; write the service's own address",
		"SSE_ROUTE_B_FROM: is in quotes, which are part of the value here; leave them out",
		`SSE_ROUTE_C_REPLY: answers every message, whatever it is, and its answers are answered in turn; write which one it answers, such as select(.type=="ping")|{type:"pong"}`,
	})
}
