package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/access"
)

// AUTH and what belongs to it: each mistake names the variable and the fix, and shows nothing that may be a secret.
func TestAccessProblems(t *testing.T) {
	feed := func(settings ...string) (all []string) {
		for _, s := range settings {
			all = append(all, "SSE_ROUTE_FEED_"+s)
		}
		return all
	}
	for name, c := range map[string]struct {
		environ []string
		want    string
	}{
		"unknown method":         {feed("AUTH=basic"), `SSE_ROUTE_FEED_AUTH: "basic" is none of forward, jwt; write forward, jwt or both, comma-separated`},
		"forward without URL":    {feed("AUTH=forward"), `SSE_ROUTE_FEED_AUTH_URL: required with AUTH=forward; write the address that answers 2xx for a session that may come in, such as http://localhost:3000/auth`},
		"no address":             {feed("AUTH=forward", "AUTH_URL=localhost/hidden"), `SSE_ROUTE_FEED_AUTH_URL: is not an http:// or https:// address without user name and fragment; write the address that answers 2xx for a session that may come in, such as http://localhost:3000/auth`},
		"password":               {feed("AUTH=forward", "AUTH_URL=http://u:hidden@h/"), `SSE_ROUTE_FEED_AUTH_URL: is not an http:// or https:// address without user name and fragment; write the address that answers 2xx for a session that may come in, such as http://localhost:3000/auth`},
		"no keys":                {feed("AUTH=jwt"), `SSE_ROUTE_FEED_JWT_KEYS: required with AUTH=jwt; write the https:// address of a JWKS, the path of a PEM file, or secret: and the secret`},
		"keys that are no file":  {feed("AUTH=jwt", "JWT_KEYS=hidden"), `SSE_ROUTE_FEED_JWT_KEYS: the file it names cannot be read: file does not exist; write the https:// address of a JWKS, the path of a PEM file, or secret: and the secret`},
		"no secret":              {feed("AUTH=jwt", "JWT_KEYS=secret:"), `SSE_ROUTE_FEED_JWT_KEYS: has a line that is not secret: and a secret; write one a line`},
		"two kinds of keys":      {feed("AUTH=jwt", "JWT_KEYS=secret:hidden\nhttps://h/"), `SSE_ROUTE_FEED_JWT_KEYS: has a line that is not secret: and a secret; write one a line`},
		"no PEM":                 {feed("AUTH=jwt", "JWT_KEYS=-----BEGIN hidden"), `SSE_ROUTE_FEED_JWT_KEYS: holds no PEM block; give public keys or certificates, as ` + "`openssl pkey -pubout`" + ` prints them`},
		"no place":               {feed("AUTH=jwt", "JWT_KEYS=secret:x", "JWT_FROM=header, cookie"), `SSE_ROUTE_FEED_JWT_FROM: "cookie" is no place for a token; write header (Authorization: Bearer), cookie:NAME or query:NAME, comma-separated`},
		"no header":              {feed("AUTH=jwt", "JWT_KEYS=secret:x", "AUTH_HEADERS=A: b"), `SSE_ROUTE_FEED_AUTH_HEADERS: "A: b" is not a header's name; write names with commas, such as Cookie, Authorization`},
		"the sidecar's header":   {feed("AUTH=jwt", "JWT_KEYS=secret:x", "AUTH_HEADERS=x-forwarded-uri"), `SSE_ROUTE_FEED_AUTH_HEADERS: X-Forwarded-Uri is set by the sidecar; leave it out`},
		"no claim":               {feed("AUTH=jwt", "JWT_KEYS=secret:x", "AUTH_CLAIMS={auth.sub}"), `SSE_ROUTE_FEED_AUTH_CLAIMS: "{auth.sub}" cannot stand in a placeholder; write names of claims or headers with commas, such as sub, realm_access.roles`},
		"without AUTH":           {feed("AUTH_URL=http://h/", "AUTH=off"), `SSE_ROUTE_FEED_AUTH_URL: has no effect without AUTH; set AUTH to forward or jwt, or unset it`},
		"of the other method":    {feed("AUTH=jwt", "JWT_KEYS=secret:x", "AUTH_URL=http://h/"), `SSE_ROUTE_FEED_AUTH_URL: has no effect here: it is for AUTH=forward; unset it, or add forward to AUTH`},
		"an unknown claim":       {feed("AUTH=jwt", "JWT_KEYS=secret:x", "AUTH_CLAIMS=sub", "HEADERS=X: {auth.email}"), `SSE_ROUTE_FEED_HEADERS: {auth.email} is not in AUTH_CLAIMS, which names what is taken from the client's authentication; add email there, and set AUTH`},
		"a claim without AUTH":   {feed("HEADERS=X: {auth.sub}", "AUTH=off"), `SSE_ROUTE_FEED_HEADERS: {auth.sub} is not in AUTH_CLAIMS, which names what is taken from the client's authentication; add sub there, and set AUTH`},
		"claims of everybody":    {[]string{"SSE_AUTH_CLAIMS=sub", "SSE_ROUTE_FEED_HEADERS=X: {auth.sub}"}, `SSE_ROUTE_FEED_HEADERS: {auth.sub} is not in AUTH_CLAIMS, which names what is taken from the client's authentication; add sub there, and set AUTH`},
		"eager":                  {feed("AUTH=jwt", "JWT_KEYS=secret:x", "AUTH_CLAIMS=sub", "HEADERS=X: {auth.sub}", "EAGER=true"), `SSE_ROUTE_FEED_EAGER: the route uses the client's request (a placeholder, FORWARD or SCOPE=session), so nothing can start before a client asks; unset EAGER, or remove these`},
		"revalidation":           {feed("AUTH=jwt", "JWT_KEYS=secret:x", "REVALIDATE=48h"), `SSE_ROUTE_FEED_REVALIDATE: "48h" is out of bounds; write 10ms to 24h, or 0 for none`},
		"a ticket's key":         {[]string{"SSE_TICKET_KEY=" + strings.Repeat("ab", 32) + ",hidden"}, `SSE_TICKET_KEY: key 2 of 2 is not 64 hex digits; make one with ` + "`openssl rand -hex 32`"},
		"a ticket's time":        {[]string{"SSE_TICKET_TTL=5m"}, `SSE_TICKET_TTL: has no effect without SSE_TICKET_KEY; set that, or unset it`},
		"a ticket's second time": {[]string{"SSE_TICKET_KEY=" + strings.Repeat("ab", 32), "SSE_TICKET_TTL=5m", "SSE_TICKET_REUSE=1m"}, `SSE_TICKET_REUSE: 1m0s is less than SSE_TICKET_TTL, 5m0s; write a longer one`},
	} {
		_, err := Load(append(base[:len(base):len(base)], c.environ...), files(nil))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, c.want)
		}
	}
}

func TestAccess(t *testing.T) {
	disk := map[string]string{"/keys": "secret:one\nsecret:two\n", "/ticket": strings.Repeat("01", 32)}
	c, err := Load(append(base[:len(base):len(base)], "SSE_AUTH=forward, jwt,jwt", "SSE_AUTH_URL=https://auth.example/check?x=1", "SSE_JWT_KEYS_FILE=/keys", "SSE_JWT_FROM=query:t,cookie:c",
		"SSE_JWT_AUDIENCE=a, b", "SSE_JWT_ISSUER=https://i/", "SSE_REVALIDATE=5s", "SSE_AUTH_CLAIMS=sub", "SSE_ROUTE_POLL_AUTH=off", "SSE_TICKET_KEY_FILE=/ticket"), files(disk))
	if err != nil {
		t.Fatal(err)
	}
	if c.Routes[1].Access != nil {
		t.Error("a route without AUTH has one")
	}
	a := *c.Routes[0].Access
	reread := a.Keys.Reread
	a.Kind, a.Keys.Reread = nil, nil
	want := access.Settings{Methods: []string{"forward", "jwt"}, URL: "https://auth.example/check?x=1", Headers: []string{"Cookie", "Authorization"}, Claims: []string{"sub"},
		Keys: access.KeySettings{Secrets: []string{"one", "two"}}, Issuer: "https://i/", Audience: []string{"a", "b"}, From: []access.Place{{Kind: "query", Name: "t"}, {Kind: "cookie", Name: "c"}}, Revalidate: 5 * time.Second}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got  %+v\nwant %+v", a, want)
	}
	if keys, err := reread(); keys != nil || err != nil {
		t.Errorf("nothing has changed: %v, %v", keys, err)
	}
	disk["/keys"] = "secret:two"
	if keys, err := reread(); err != nil || keys == nil || !slices.Equal(keys.Secrets, []string{"two"}) {
		t.Errorf("%+v, %v", keys, err)
	}
	if keys, err := reread(); keys != nil || err != nil {
		t.Errorf("nothing has changed since: %v, %v", keys, err)
	}
	disk["/keys"] = "https://elsewhere/"
	if keys, err := reread(); keys != nil || err == nil || !strings.Contains(err.Error(), "takes a reload") {
		t.Errorf("%v, %v", keys, err)
	}
	if c.Tickets.TTL != time.Minute || c.Tickets.Reuse != 12*time.Hour || len(c.Tickets.Keys) != 1 {
		t.Errorf("%+v", c.Tickets)
	}
	if keys, err := c.Tickets.Reread(); keys != nil || err != nil {
		t.Errorf("nothing has changed: %v, %v", keys, err)
	}
	disk["/ticket"] = strings.Repeat("02", 32) + ", " + strings.Repeat("01", 32) + "\n"
	if keys, err := c.Tickets.Reread(); len(keys) != 2 || err != nil || keys[1] != c.Tickets.Keys[0] {
		t.Errorf("%v, %v", keys, err)
	}
	disk["/ticket"] = "hidden"
	if keys, err := c.Tickets.Reread(); keys != nil || err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%v, %v", keys, err)
	}
}

// check says what AUTH is for, and shows no secret of it.
func TestCheckShowsAccess(t *testing.T) {
	var out strings.Builder
	c := load(t, append(base[:len(base):len(base)], "SSE_ROUTE_FEED_AUTH=jwt,forward", "SSE_ROUTE_FEED_JWT_KEYS=secret:hidden", "SSE_ROUTE_FEED_AUTH_URL=http://h/auth?key=hidden",
		"SSE_ROUTE_FEED_AUTH_CLAIMS=sub", "SSE_ROUTE_FEED_HEADERS=X: {auth.sub}", "SSE_ROUTE_FEED_REVALIDATE=30s", "SSE_TICKET_KEY="+strings.Repeat("ab", 32))...)
	if err := c.Check(&out); err != nil {
		t.Fatal(err)
	}
	want := "  sharing one upstream connection for each different {auth.sub}\n" +
		"  auth    verifies JWTs by a secret, and asks http://h/auth?key=… with Cookie, Authorization, again every 30s\n" +
		"          for events and POSTs of the path; what is passed through is the service's own to check\n"
	if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "hidden") || strings.Contains(out.String(), "abab") || strings.Count(out.String(), "  auth  ") != 1 || !strings.Contains(out.String(), "\ntickets  for 1m0s, with a last id for 12h0m0s\n") {
		t.Error(out.String())
	}
}
