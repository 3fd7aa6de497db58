package learn_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A key or a token of AppSync's is in no learned file, wherever it stands: in base64 in the query or in a subprotocol, beside a subscription, or in
// something else that the client sends.
func TestAppSyncHidesItsKeys(t *testing.T) {
	const key, token, signature = "da2-plainlookingword", "plain token of joe", "6e86291e8372ff2a2260956d9b8aae1d"
	signed := `{"host":"h","x-amz-date":"20260601T120000Z","x-amz-security-token":"sessionword","authorization":"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLEWORD/20260601/eu-west-1/appsync/aws4_request, SignedHeaders=host;x-amz-date, Signature=` + signature + `"}`
	for name, c := range map[string]struct {
		header, target, protocol string
		want                     []string
	}{
		"in the query":       {`{"host":"h","x-api-key":"` + key + `"}`, "/graphql/realtime", "", []string{`CONNECT={"apiKey":"{query.apiKey}"}`, "FROM=ws://localhost:3000/graphql/realtime", "SUBSCRIBE=subscription { a }"}},
		"in the subprotocol": {`{"host":"h","Authorization":"` + token + `"}`, "/graphql/realtime?tenant=7", "graphql-ws, ", []string{`CONNECT={"token":"{query.token}"}`, "FROM=ws://localhost:3000/graphql/realtime?tenant=7", "SUBSCRIBE=subscription { a }"}},
		"signed": {signed, "/graphql/realtime", "graphql-ws, ",
			[]string{`CONNECT={"accessKeyId":"{query.accessKeyId}","secretAccessKey":"{query.secretAccessKey}","sessionToken":"{query.sessionToken}","region":"eu-west-1"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			target, encoded := c.target, base64.StdEncoding.EncodeToString([]byte(c.header))
			if c.protocol == "" {
				target += "?header=" + url.QueryEscape(encoded) + "&payload=e30%3D"
			}
			conv := talk(t, target, "", `> {"type":"connection_init"}
				< {"type":"connection_ack","payload":{"connectionTimeoutMs":300000}}
				> {"id":"x","type":"start","payload":{"data":"{\"query\":\"subscription {\\n  a\\n}\\n\",\"variables\":{}}","extensions":{"authorization":`+c.header+`}}}
				< {"id":"x","type":"start_ack"}
				< {"id":"x","type":"data","payload":{"data":{"a":1}}}`)
			conv.Subprotocol = "graphql-ws"
			if c.protocol != "" {
				conv.Header = http.Header{"Sec-Websocket-Protocol": {c.protocol + "header-" + base64.RawURLEncoding.EncodeToString([]byte(c.header))}}
			}
			r, _ := conclude(t, seen(conv))
			has(t, one(t, r), append(c.want, "PROTOCOL=appsync")...)
			for _, secret := range []string{key, token, signature, "AKIDEXAMPLEWORD", "sessionword", encoded[:40], "header-"} {
				if strings.Contains(r.Env, secret) {
					t.Errorf("%s is in the file:\n%s", secret, r.Env)
				}
			}
		})
	}
}

// A key that is known from the authorization is hidden where it stands under a name that says nothing.
func TestAppSyncKeysElsewhere(t *testing.T) {
	const key = "plainlookingword"
	conv := talk(t, "/feed", "", `> {"subscribe":"prices","k":"`+key+`"}
		< {"price":1}
		< {"price":2}`)
	conv.Subprotocol = "v1"
	conv.Header = http.Header{"Sec-Websocket-Protocol": {"v1, header-" + base64.RawURLEncoding.EncodeToString([]byte(`{"x-api-key":"`+key+`"}`))}}
	if r, _ := conclude(t, seen(conv)); strings.Contains(r.Env, key) {
		t.Errorf("the key is in the file:\n%s", r.Env)
	}
}

// So is the token of one that has its scheme before it.
func TestAppSyncTokensElsewhere(t *testing.T) {
	const token = "plainlookingword"
	conv := talk(t, "/feed", "", `> {"subscribe":"prices","k":"`+token+`"}
		< {"price":1}
		< {"price":2}`)
	conv.Subprotocol = "v1"
	conv.Header = http.Header{"Sec-Websocket-Protocol": {"v1, header-" + base64.RawURLEncoding.EncodeToString([]byte(`{"Authorization":"Bearer `+token+`"}`))}}
	if r, _ := conclude(t, seen(conv)); strings.Contains(r.Env, token) {
		t.Errorf("the token is in the file:\n%s", r.Env)
	}
}

// What speaks the subprotocol graphql-ws is AppSync only where operations are authorized one by one.
func TestAppSyncOrNot(t *testing.T) {
	conv := talk(t, "/graphql", "", `> {"type":"connection_init"}
		< {"type":"connection_ack"}
		> {"id":"x","type":"start","payload":{"query":"subscription { a }"}}
		< {"id":"x","type":"data","payload":{"data":{"a":1}}}`)
	conv.Subprotocol = "graphql-ws"
	r, _ := conclude(t, seen(conv))
	has(t, one(t, r), "PROTOCOL=graphql-ws", "SUBSCRIBE=subscription { a }")
}
