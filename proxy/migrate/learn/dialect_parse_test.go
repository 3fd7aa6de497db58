package learn_test

import (
	"strings"
	"testing"
)

// What is secret of a LiveQuery client's connect is in no learned file; what each of them has for itself is left out.
func TestParseHidesItsKeys(t *testing.T) {
	r, _ := conclude(t, seen(talk(t, "/parse", "", `> {"op":"connect","applicationId":"app","javascriptKey":"public","masterKey":"plainlookingmaster","sessionToken":"r:plainlooking","installationId":"7e0b"}
		< {"op":"connected","clientId":"x"}
		> {"op":"subscribe","requestId":1,"query":{"className":"Order","where":{}},"sessionToken":"r:plainlooking"}
		< {"op":"subscribed","requestId":1}`)))
	has(t, one(t, r), "PROTOCOL=parse", "SUBSCRIBE=Order", `CONNECT={"applicationId":"app","javascriptKey":"public","masterKey":"{query.masterKey}","sessionToken":"{query.sessionToken}"}`)
	if strings.Contains(r.Env, "plainlooking") || strings.Contains(r.Env, "7e0b") {
		t.Errorf("a secret is in the file:\n%s", r.Env)
	}
}
