package learn_test

import (
	"strings"
	"testing"
)

// What a client of Meteor's logs in with is in no learned file, and what it says in SockJS is seen through.
func TestDDPHidesItsPasswords(t *testing.T) {
	const digest = "plainlookingdigest"
	login := `{"msg":"method","method":"login","id":"1","params":[{"user":{"username":"ann"},"password":{"digest":"` + digest + `","algorithm":"sha-256"}}]}`
	for name, c := range map[string]struct{ target, lines, protocol, from string }{
		"plain": {"/websocket", `< {"server_id":"0"}
			> {"msg":"connect","version":"1","support":["1","pre2","pre1"]}
			< {"msg":"connected","session":"x"}
			> ` + login + `
			< {"msg":"result","id":"1","result":{"id":"u"}}
			> {"msg":"sub","id":"2","name":"orders","params":["open"]}
			< {"msg":"ready","subs":["2"]}`, "ddp", "ws://localhost:3000/websocket"},
		"in SockJS": {"/sockjs/123/abcdefgh/websocket", `< o
			> ["{\"msg\":\"connect\",\"version\":\"1\",\"support\":[\"1\"]}"]
			< a["{\"msg\":\"connected\",\"session\":\"x\"}"]
			> ["` + strings.ReplaceAll(login, `"`, `\"`) + `"]
			> ["{\"msg\":\"sub\",\"id\":\"2\",\"name\":\"orders\",\"params\":[\"open\"]}"]
			< a["{\"msg\":\"ready\",\"subs\":[\"2\"]}"]`, "sockjs+ddp", "ws://localhost:3000/sockjs"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := conclude(t, seen(talk(t, c.target, "", c.lines)))
			has(t, one(t, r), "PROTOCOL="+c.protocol, "FROM="+c.from, `SUBSCRIBE=orders ["open"]`, `CONNECT={"user":{"username":"ann"},"password":{"digest":"{query.digest}","algorithm":"sha-256"}}`)
			if strings.Contains(r.Env, digest) {
				t.Errorf("the password is in the file:\n%s", r.Env)
			}
		})
	}
}

// Rocket.Chat's login by LDAP has a password under a name of its own.
func TestDDPHidesLDAPPasswords(t *testing.T) {
	const password = "plainlookingword"
	r, _ := conclude(t, seen(talk(t, "/websocket", "", `> {"msg":"connect","version":"1","support":["1"]}
		< {"msg":"connected","session":"x"}
		> {"msg":"method","method":"login","id":"1","params":[{"ldap":true,"username":"ann","ldapPass":"`+password+`","ldapOptions":{}}]}
		< {"msg":"result","id":"1","result":{"id":"u"}}
		> {"msg":"sub","id":"2","name":"orders","params":["open"]}
		< {"msg":"ready","subs":["2"]}`)))
	if has(t, one(t, r), "PROTOCOL=ddp"); strings.Contains(r.Env, password) {
		t.Errorf("the password is in the file:\n%s", r.Env)
	}
}
