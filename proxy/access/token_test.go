package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signer is one key of an issuer.
type signer struct {
	kid, alg string
	key      crypto.Signer
}

var signers = sync.OnceValue(func() map[string]signer {
	all := map[string]signer{}
	for _, kid := range []string{"rsa", "rsa2"} {
		k, _ := rsa.GenerateKey(rand.Reader, 2048)
		all[kid] = signer{kid, "RS256", k}
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k, _ := ecdsa.GenerateKey(curve, rand.Reader)
		all[alg] = signer{alg, alg, k}
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	all["ed"] = signer{"ed", "EdDSA", ed}
	return all
})

func b64(p []byte) string { return base64.RawURLEncoding.EncodeToString(p) }

// jwk is the public half of a signer's key.
func (s signer) jwk() map[string]any {
	m := map[string]any{"kid": s.kid, "use": "sig"}
	switch k := s.key.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		raw, _ := k.Bytes()
		half := len(raw) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Params().Name, b64(raw[1:1+half]), b64(raw[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(k)
	}
	return m
}

func jwks(keys ...map[string]any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	}
}

func (s signer) pem(t *testing.T) string {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// claims are good ones, with changes: a nil takes one out.
func claims(change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"iss": "https://login.example", "aud": []string{"other", "app"}, "sub": "joe", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for name, v := range change {
		if c[name] = v; v == nil {
			delete(c, name)
		}
	}
	return c
}

// token signs; header changes the token's head, alg included.
func (s signer) token(t *testing.T, c jwt.MapClaims, header map[string]any) string {
	t.Helper()
	alg := s.alg
	if a, ok := header["alg"].(string); ok && jwt.GetSigningMethod(a) != nil && a != "none" && !strings.HasPrefix(a, "HS") {
		alg = a
	}
	tok := jwt.NewWithClaims(jwt.GetSigningMethod(alg), c)
	tok.Header["kid"] = s.kid
	for name, v := range header {
		if tok.Header[name] = v; v == nil {
			delete(tok.Header, name)
		}
	}
	text, err := tok.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// forged is a token with a head and a signature of any kind.
func forged(header map[string]any, c jwt.MapClaims, sign func(text string) []byte) string {
	h, _ := json.Marshal(header)
	b, _ := json.Marshal(c)
	text := b64(h) + "." + b64(b)
	return text + "." + b64(sign(text))
}

func hs256(key []byte) func(string) []byte {
	return func(text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
}

var verifying = Settings{Methods: []string{JWT}, Issuer: "https://login.example", Audience: []string{"app"}, From: []Place{{Kind: "header"}},
	Claims: []string{"sub", "email", "roles", "realm_access.roles", "level", "staff", "org"}, Keys: KeySettings{URL: "https://login.example/certs"}}

func bearer(token string) *Client { return from("/a", "Authorization", "Bearer "+token) }

func allKeys() []map[string]any {
	var keys []map[string]any
	for _, s := range signers() {
		keys = append(keys, s.jwk())
	}
	return keys
}

func TestEveryAlgorithmOfAKey(t *testing.T) {
	app := &service{answer: jwks(allKeys()...)}
	bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
		for kid, algs := range map[string][]string{"rsa": rsaAlgorithms, "ES256": {"ES256"}, "ES384": {"ES384"}, "ES512": {"ES512"}, "ed": {"EdDSA"}} {
			for _, alg := range algs {
				s := signers()[kid]
				if got := g.try(bearer(s.token(t, claims(nil), map[string]any{"alg": alg}))); got != "in" {
					t.Errorf("%s: %s", alg, got)
				}
			}
		}
		if app.asks() != 1 {
			t.Errorf("%d fetches", app.asks())
		}
	})
}

// Nothing that a token says lets it in with anything but a key that fits.
func TestForgedTokens(t *testing.T) {
	good := signers()["rsa"]
	public, _ := x509.MarshalPKIXPublicKey(good.key.Public())
	asPEM := []byte(good.pem(t))
	symmetric := map[string]any{"kty": "oct", "kid": "oct", "k": b64([]byte("0123456789abcdef0123456789abcdef"))}
	encrypts := signers()["rsa2"].jwk()
	encrypts["use"] = "enc"
	pinned := signers()["ES256"].jwk()
	pinned["alg"] = "ES256"
	only := signer{"pinned", "RS256", signers()["rsa2"].key}
	onlyKey := only.jwk()
	onlyKey["alg"] = "RS512"
	hostile := map[string]any{"kty": "RSA", "kid": "hostile", "n": "AQAB", "e": "AQAB", "x5u": "https://evil.example/x"}
	app := &service{answer: jwks(good.jwk(), symmetric, encrypts, pinned, onlyKey, hostile, map[string]any{"kty": "new"}, nil)}
	head := func(alg, kid string) map[string]any { return map[string]any{"alg": alg, "kid": kid, "typ": "JWT"} }
	none := func(string) []byte { return nil }
	now := time.Now
	cases := map[string]func(t *testing.T) string{
		"none":           func(*testing.T) string { return forged(head("none", "rsa"), claims(nil), none) },
		"None":           func(*testing.T) string { return forged(head("None", "rsa"), claims(nil), none) },
		"no alg":         func(*testing.T) string { return forged(map[string]any{"kid": "rsa"}, claims(nil), none) },
		"alg is no text": func(*testing.T) string { return forged(map[string]any{"alg": 7, "kid": "rsa"}, claims(nil), none) },
		"confusion, DER": func(*testing.T) string { return forged(head("HS256", "rsa"), claims(nil), hs256(public)) },
		"confusion, PEM": func(*testing.T) string { return forged(head("HS256", "rsa"), claims(nil), hs256(asPEM)) },
		"confusion, n": func(*testing.T) string {
			return forged(head("HS256", "rsa"), claims(nil), hs256(good.key.Public().(*rsa.PublicKey).N.Bytes()))
		},
		"confusion, no kid": func(*testing.T) string { return forged(map[string]any{"alg": "HS256"}, claims(nil), hs256(asPEM)) },
		"empty secret":      func(*testing.T) string { return forged(head("HS256", "rsa"), claims(nil), hs256(nil)) },
		"public secret": func(*testing.T) string {
			return forged(head("HS256", "oct"), claims(nil), hs256([]byte("0123456789abcdef0123456789abcdef")))
		},
		"kid is a path": func(t *testing.T) string {
			return good.token(t, claims(nil), map[string]any{"kid": "../../../../dev/null"})
		},
		"kid is a path, HS": func(*testing.T) string { return forged(head("HS256", "/dev/null"), claims(nil), hs256(nil)) },
		"kid is SQL": func(t *testing.T) string {
			return good.token(t, claims(nil), map[string]any{"kid": "x' UNION SELECT 'a"})
		},
		"kid is a list": func(t *testing.T) string { return good.token(t, claims(nil), map[string]any{"kid": []string{"rsa"}}) },
		"kid is null": func(t *testing.T) string {
			return forged(map[string]any{"alg": "RS256", "kid": nil}, claims(nil), none)
		},
		"another's key": func(t *testing.T) string {
			return signer{"rsa", "RS256", signers()["rsa2"].key}.token(t, claims(nil), nil)
		},
		"jku": func(t *testing.T) string {
			return signers()["rsa2"].token(t, claims(nil), map[string]any{"jku": "https://evil.example/keys"})
		},
		"its own jwk": func(t *testing.T) string {
			return signers()["ES384"].token(t, claims(nil), map[string]any{"jwk": signers()["ES384"].jwk()})
		},
		"x5u": func(t *testing.T) string {
			return signers()["ES384"].token(t, claims(nil), map[string]any{"kid": "hostile", "x5u": "https://evil.example/x"})
		},
		"a key that encrypts": func(t *testing.T) string { return signers()["rsa2"].token(t, claims(nil), nil) },
		"not the key's alg":   func(t *testing.T) string { return only.token(t, claims(nil), nil) },
		"crit":                func(t *testing.T) string { return good.token(t, claims(nil), map[string]any{"crit": []string{"exp"}}) },
		"expired": func(t *testing.T) string {
			return good.token(t, claims(map[string]any{"exp": now().Add(-31 * time.Second).Unix()}), nil)
		},
		"expired long ago": func(t *testing.T) string { return good.token(t, claims(map[string]any{"exp": 0}), nil) },
		"no exp":           func(t *testing.T) string { return good.token(t, claims(map[string]any{"exp": nil}), nil) },
		"exp is a text":    func(t *testing.T) string { return good.token(t, claims(map[string]any{"exp": "2099-01-01"}), nil) },
		"not yet": func(t *testing.T) string {
			return good.token(t, claims(map[string]any{"nbf": now().Add(40 * time.Second).Unix()}), nil)
		},
		"no audience":    func(t *testing.T) string { return good.token(t, claims(map[string]any{"aud": nil}), nil) },
		"wrong audience": func(t *testing.T) string { return good.token(t, claims(map[string]any{"aud": "application"}), nil) },
		"no issuer":      func(t *testing.T) string { return good.token(t, claims(map[string]any{"iss": nil}), nil) },
		"wrong issuer": func(t *testing.T) string {
			return good.token(t, claims(map[string]any{"iss": "https://login.example/"}), nil)
		},
		"truncated": func(t *testing.T) string { s := good.token(t, claims(nil), nil); return s[:len(s)-3] },
		"no signature": func(t *testing.T) string {
			s := good.token(t, claims(nil), nil)
			return s[:strings.LastIndex(s, ".")+1]
		},
		"two parts":  func(t *testing.T) string { s := good.token(t, claims(nil), nil); return s[:strings.LastIndex(s, ".")] },
		"four parts": func(t *testing.T) string { return good.token(t, claims(nil), nil) + ".x" },
		"other claims": func(t *testing.T) string {
			one, two := strings.Split(good.token(t, claims(nil), nil), "."), strings.Split(good.token(t, claims(map[string]any{"sub": "ann"}), nil), ".")
			return one[0] + "." + two[1] + "." + one[2]
		},
		"no token": func(*testing.T) string { return "" },
		"nonsense": func(*testing.T) string { return "a.b.c" },
		"large":    func(*testing.T) string { return strings.Repeat("a", tokenMost+1) },
	}
	for name, make := range cases {
		bubble(t, verifying, app, func(t *testing.T, g *Guard, log *logged) {
			token := make(t)
			if got := g.try(bearer(token)); got != "401" {
				t.Errorf("%s: %s", name, got)
			}
			if got := g.try(bearer(good.token(t, claims(nil), nil))); got != "in" {
				t.Errorf("a good token: %s", got)
			}
			for _, r := range app.asked {
				if r.URL.String() != "https://login.example/certs" {
					t.Errorf("%s: %s was fetched", name, r.URL)
				}
			}
			if token != "" && strings.Contains(log.String(), token) {
				t.Errorf("%s: the log has the token", name)
			}
		})
	}
}

func TestSkewAndClaims(t *testing.T) {
	app := &service{answer: jwks(signers()["rsa"].jwk())}
	good := signers()["rsa"]
	bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
		for name, change := range map[string]map[string]any{
			"just expired": {"exp": time.Now().Add(-29 * time.Second).Unix()}, "almost": {"nbf": time.Now().Add(29 * time.Second).Unix()},
			"of the future": {"iat": time.Now().Add(time.Minute).Unix()}, "one audience": {"aud": "app"}, "fractions": {"exp": float64(time.Now().Unix()) + 10.5},
		} {
			if got := g.try(bearer(good.token(t, claims(change), nil))); got != "in" {
				t.Errorf("%s: %s", name, got)
			}
		}
		p, err := g.Admit(t.Context(), bearer(good.token(t, claims(map[string]any{"email": "joe@example.com", "roles": []any{"a", "b"}, "level": int64(12345678901234567),
			"realm_access": map[string]any{"roles": []string{"x", "y"}}, "staff": true, "org": map[string]any{"id": 1}, "secret": "s", "sid": "77"}), nil)))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"sub": "joe", "email": "joe@example.com", "roles": "a,b", "level": "12345678901234567", "realm_access.roles": "x,y",
			"staff": "true", "org": `{"id":1}`, "secret": "", "iss": "", "sid": "77"} {
			if got := p.Claim(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if left := time.Until(p.Until()); left != time.Hour {
			t.Error(left)
		}
	})
}

// The same token is verified once, and admits until it expires.
func TestKnownTokens(t *testing.T) {
	app := &service{answer: jwks(signers()["rsa"].jwk())}
	bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
		token := signers()["rsa"].token(t, claims(nil), nil)
		if g.Known(bearer(token)) != nil {
			t.Error("a token is known that was never seen")
		}
		g.seat(t, bearer(token)).leave()
		time.Sleep(time.Hour + 29*time.Second)
		if g.Known(bearer(token)) == nil || g.Known(bearer(token+"x")) != nil || g.Known(from("/a")) != nil {
			t.Error("what is known is not what was verified")
		}
		time.Sleep(time.Second)
		if got := g.try(bearer(token)); g.Known(bearer(token)) != nil || got != "401" {
			t.Error("it was admitted after its end: ", got)
		}
	})
}

func TestPlaces(t *testing.T) {
	s := verifying
	s.From = []Place{{"cookie", "jwt"}, {"header", ""}, {"query", "access_token"}}
	app := &service{answer: jwks(signers()["rsa"].jwk())}
	bubble(t, s, app, func(t *testing.T, g *Guard, _ *logged) {
		good := signers()["rsa"].token(t, claims(nil), nil)
		for want, all := range map[string][]*Client{
			"in": {bearer(good), from("/a", "Authorization", "bearer  "+good), from("/a", "Cookie", "x=1; jwt="+good), from("/a?access_token=" + good),
				from("/a?access_token=bad", "Authorization", "Bearer "+good), from("/a", "Cookie", "jwt="+good, "Authorization", "Bearer bad")},
			"401": {from("/a", "Authorization", good), from("/a", "Authorization", "Basic "+good), from("/a", "Cookie", "jwt=bad", "Authorization", "Bearer "+good),
				from("/a?token=" + good), from("/a", "Cookie", "JWT="+good)},
		} {
			for i, c := range all {
				if got := g.try(c); got != want {
					t.Errorf("%s %d: %s", want, i, got)
				}
			}
		}
	})
}

func TestSecretsAndFiles(t *testing.T) {
	es, rs := signers()["ES256"], signers()["rsa"]
	hs := func(secret string) string {
		return forged(map[string]any{"alg": "HS256", "kid": "any"}, claims(nil), hs256([]byte(secret)))
	}
	s := verifying
	s.Keys = KeySettings{Secrets: []string{"one secret", "another"}}
	bubble(t, s, &service{}, func(t *testing.T, g *Guard, _ *logged) {
		for token, want := range map[string]string{hs("one secret"): "in", hs("another"): "in", hs("one"): "401", hs(""): "401", es.token(t, claims(nil), nil): "401"} {
			if got := g.try(bearer(token)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
	var next *KeySettings
	s.Keys = KeySettings{PEM: es.pem(t) + "text between\n" + rs.pem(t), Reread: func() (*KeySettings, error) { n := next; next = nil; return n, nil }}
	bubble(t, s, &service{}, func(t *testing.T, g *Guard, _ *logged) {
		for token, want := range map[string]string{es.token(t, claims(nil), nil): "in", rs.token(t, claims(nil), nil): "in", rs.token(t, claims(nil), map[string]any{"kid": nil}): "in",
			signers()["ES384"].token(t, claims(nil), nil): "401", hs(es.pem(t)): "401", hs(rs.pem(t)): "401"} {
			if got := g.try(bearer(token)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		old := es.token(t, claims(nil), nil)
		next = &KeySettings{PEM: signers()["ES384"].pem(t)}
		time.Sleep(2 * time.Second)
		if got := g.try(bearer(signers()["ES384"].token(t, claims(nil), nil))); got != "in" {
			t.Error("the new key: ", got)
		}
		if got := g.try(bearer(old)); got != "401" || g.Known(bearer(old)) != nil {
			t.Error("the old key: ", got)
		}
	})
}

func TestKeysThatAreNone(t *testing.T) {
	private, _ := x509.MarshalPKCS8PrivateKey(signers()["ES256"].key)
	for text, want := range map[string]string{
		"x": "no PEM block",
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})):  "give the public key",
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}})): "is damaged",
	} {
		if err := (KeySettings{PEM: text}).Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A rotated key works at once; what is made up has the issuer asked once in 30 s.
func TestRotation(t *testing.T) {
	app := &service{answer: jwks(signers()["rsa"].jwk())}
	bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
		old := signers()["rsa"].token(t, claims(nil), nil)
		if got := g.try(bearer(old)); got != "in" || app.asks() != 1 {
			t.Fatal(got, app.asks())
		}
		for i, kid := range []string{"ES256", "ES384", "ES512", "ed"} { // one after the other, faster than anybody would
			time.Sleep(time.Second)
			app.answers(jwks(signers()[kid].jwk()))
			if got := g.try(bearer(signers()[kid].token(t, claims(nil), nil))); got != "in" || app.asks() != i+2 {
				t.Fatal(kid, got, app.asks())
			}
		}
		if got := g.try(bearer(old)); got != "401" {
			t.Error("a key that was taken out: ", got)
		}
		n := app.asks() // the old kid was looked for
		for i := range 290 {
			if got := g.try(bearer(signers()["rsa2"].token(t, claims(nil), map[string]any{"kid": fmt.Sprint("made up ", i)}))); got != "401" {
				t.Fatal(got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if app.asks() != n {
			t.Errorf("%d fetches in 29 s of made up names", app.asks()-n)
		}
		app.answers(jwks(signers()["ed"].jwk(), signers()["rsa2"].jwk()))
		time.Sleep(time.Second)
		if got := g.try(bearer(signers()["rsa2"].token(t, claims(nil), nil))); got != "in" {
			t.Error("a new key after the flood: ", got)
		}
	})
}

// So it is with a set whose keys have no names, and with tokens that name none.
func TestRotationWithoutNames(t *testing.T) {
	unnamed := func(kid string) map[string]any {
		k := signers()[kid].jwk()
		delete(k, "kid")
		return k
	}
	for _, header := range []map[string]any{{"kid": nil}, {"kid": "whatever"}} {
		app := &service{answer: jwks(unnamed("rsa"))}
		bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
			if got := g.try(bearer(signers()["rsa"].token(t, claims(nil), header))); got != "in" {
				t.Error(got)
			}
			time.Sleep(31 * time.Second)
			app.answers(jwks(unnamed("rsa2")))
			if got := g.try(bearer(signers()["rsa2"].token(t, claims(nil), header))); got != "in" {
				t.Error("after the rotation: ", got)
			}
			n := app.asks()
			for range 100 {
				if got := g.try(bearer(signers()["rsa"].token(t, claims(nil), header))); got != "401" {
					t.Fatal(got)
				}
			}
			if app.asks() > n+1 {
				t.Errorf("%d fetches for tokens that fit no key", app.asks()-n)
			}
		})
	}
}

// Many at once cause one fetch.
func TestOneFetchAtOnce(t *testing.T) {
	app := &service{answer: slow(time.Second, jwks(signers()["rsa"].jwk()))}
	bubble(t, verifying, app, func(t *testing.T, g *Guard, _ *logged) {
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				kid, want := "rsa", "in"
				if i%2 == 1 {
					kid, want = fmt.Sprint(i), "401"
				}
				if got := g.try(bearer(signers()["rsa"].token(t, claims(nil), map[string]any{"kid": kid}))); got != want {
					t.Error(got, want)
				}
			})
		}
		all.Wait()
		if app.asks() != 1 {
			t.Errorf("%d fetches", app.asks())
		}
	})
}

// While the issuer is away its keys stay in use. Who comes with another is neither in nor out. A key that is taken out is not in use for
// much longer, though nobody comes with a new one.
func TestIssuerIsAway(t *testing.T) {
	app := &service{answer: status(500)}
	rs, es := signers()["rsa"], signers()["ES256"]
	bubble(t, verifying, app, func(t *testing.T, g *Guard, log *logged) {
		if got := g.try(bearer(rs.token(t, claims(nil), nil))); got != "later" {
			t.Error("no keys yet: ", got)
		}
		if got := g.try(bearer(rs.token(t, claims(nil), nil))); got != "later" || app.asks() != 1 {
			t.Error(got, app.asks())
		}
		app.answers(jwks(rs.jwk()))
		time.Sleep(5 * time.Second)
		if got := g.try(bearer(rs.token(t, claims(nil), nil))); got != "in" {
			t.Error(got)
		}
		for _, away := range []http.HandlerFunc{status(0), status(404), func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<p>") }, jwks(), slow(time.Hour, status(200))} {
			app.answers(away)
			time.Sleep(time.Minute)
			if got := g.try(bearer(rs.token(t, claims(nil), nil))); got != "in" {
				t.Error("a key in use: ", got)
			}
			if got := g.try(bearer(es.token(t, claims(nil), nil))); got != "later" {
				t.Error("another: ", got)
			}
			time.Sleep(20 * time.Second)
		}
		app.answers(jwks(es.jwk()))
		time.Sleep(time.Minute)
		last := rs.token(t, claims(nil), nil)
		g.try(bearer(last)) // which has the set fetched
		time.Sleep(time.Second)
		if got := g.try(bearer(rs.token(t, claims(nil), nil))); got != "401" {
			t.Error("a key that was taken out: ", got)
		}
		if !strings.Contains(log.String(), "cannot be fetched") || !strings.Contains(log.String(), "can be fetched again") {
			t.Error(log)
		}
	})
}

// With both methods both have to admit, and what the first knows counts.
func TestBothMethods(t *testing.T) {
	s := verifying
	s.Methods, s.URL, s.Claims = []string{JWT, Forward}, "http://app/auth", []string{"sub", "X-User"}
	keys := jwks(signers()["rsa"].jwk())
	app := &service{}
	auth := func(code int) {
		app.answers(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Host == "app" {
				w.Header().Set("X-User", "x")
				w.Header().Set("sub", "root")
				w.WriteHeader(code)
				return
			}
			keys(w, r)
		})
	}
	auth(200)
	bubble(t, s, app, func(t *testing.T, g *Guard, _ *logged) {
		good := signers()["rsa"].token(t, claims(nil), nil)
		p, err := g.Admit(t.Context(), bearer(good))
		if err != nil || p.Claim("sub") != "joe" || p.Claim("X-User") != "x" {
			t.Error(p, err)
		}
		if got := g.try(bearer("bad")); got != "401" {
			t.Error(got)
		}
		if n := g.Stats.Questions.Load(); n != 1 {
			t.Errorf("%d questions: a bad token was asked about", n)
		}
		auth(403)
		if got := g.try(bearer(good)); got != "403" {
			t.Error(got)
		}
	})
}
