// This file is what tokens are verified with: a set of public keys (JWKS, RFC 7517) that is fetched, a PEM file, or a secret. The rules:
//
//   - A key decides the algorithms that it may be used with (RFC 8725, section 3.1), a token never does. There is no "none".
//   - A set over HTTP holds public keys: a symmetric one in it is ignored, as is what is for encryption or of a kind that is not known.
//     Nothing that a key or a token names is fetched (x5u, jku).

package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// algorithms are those that there are, of all kinds of keys.
var algorithms = slices.Concat(rsaAlgorithms, []string{"ES256", "ES384", "ES512", "EdDSA"}, secretAlgorithms)

var (
	rsaAlgorithms    = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	secretAlgorithms = []string{"HS256", "HS384", "HS512"}
)

// keysMost bounds the keys of a set: a token without a kid is tried with each.
const keysMost = 100

// KeySettings say where keys come from: one of the three.
type KeySettings struct {
	URL     string   // of a set
	Secrets []string // as they are
	PEM     string   // public keys and certificates

	// Reread returns the settings when what they were read from has changed since it was called last, else nil. It is not called by two
	// at once. Nil: it does not change.
	Reread func() (*KeySettings, error)
}

// verifier is one key.
type verifier struct {
	key        any
	kid        string   // "" any
	algorithms []string // that it may be used with
}

// keySet are the keys as of a moment.
type keySet struct {
	all        []verifier
	generation uint64
}

// with returns the keys for a token with this kid, "" for none, and algorithm. known: the set has a key of this kid, or no kid was asked
// for.
func (s *keySet) with(kid, algorithm string) (keys []any, known bool) {
	known = kid == ""
	for _, v := range s.all {
		known = known || v.kid == kid
		if (kid == "" || v.kid == "" || v.kid == kid) && slices.Contains(v.algorithms, algorithm) {
			keys = append(keys, v.key)
		}
	}
	return keys, known
}

// keys are a route's.
type keys struct {
	guard *Guard
	set   atomic.Pointer[keySet] // nil: none were to be had yet
	fetch *fetcher               // nil: they are not fetched
	files *rereader              // nil: they are in no file
}

func newKeys(g *Guard, client *http.Client) *keys {
	ks := &keys{guard: g}
	switch s := g.Keys; {
	case s.URL != "":
		ks.fetch = &fetcher{keys: ks, client: client, url: s.URL}
	default:
		all, _ := s.verifiers() // config has seen to it that there is nothing wrong
		ks.set.Store(&keySet{all: all})
	}
	if g.Keys.Reread != nil {
		ks.files = &rereader{keys: ks, looked: time.Now()}
	}
	return ks
}

// generation changes with the keys.
func (ks *keys) generation() uint64 {
	if s := ks.set.Load(); s != nil {
		return s.generation
	}
	return 0
}

// replace puts all in the place of the keys that there are.
func (ks *keys) replace(all []verifier) {
	ks.set.Store(&keySet{all, ks.generation() + 1})
}

// found are the keys for a token.
type found struct {
	keys       []any
	generation uint64
	vague      bool // one was meant that the token does not name
}

// all are they as the parser wants them.
func (f found) all() (keys []jwt.VerificationKey) {
	for _, key := range f.keys {
		keys = append(keys, key)
	}
	return keys
}

// find returns the keys for a token, of which there is at least one. It fails with a *[Denied] or [ErrUnavailable].
func (ks *keys) find(ctx context.Context, kid, algorithm string) (found, error) {
	var missing error
	switch {
	case ks.fetch == nil: // they have no names
		kid = ""
	default:
		missing = ks.fetch.want(ctx, kid)
	}
	if ks.files != nil {
		ks.files.look()
	}
	set := ks.set.Load()
	if set == nil {
		return found{}, missing
	}
	some, named := set.with(kid, algorithm)
	switch {
	case len(some) > 0:
		return found{some, set.generation, ks.fetch != nil && (kid == "" || !named)}, nil
	case missing != nil:
		return found{}, missing
	}
	return found{}, &Denied{http.StatusUnauthorized, "no key of JWT_KEYS has the token's kid and algorithm"}
}

// Check reports what is wrong with s, with the fix.
func (s KeySettings) Check() error {
	if s.URL != "" {
		return nil
	}
	_, err := s.verifiers()
	return err
}

// verifiers are the keys of s, unless they are to be fetched.
func (s KeySettings) verifiers() (all []verifier, err error) {
	for _, secret := range s.Secrets {
		all = append(all, verifier{key: []byte(secret), algorithms: secretAlgorithms})
	}
	if s.PEM != "" {
		return parsePEM([]byte(s.PEM))
	}
	return all, nil
}

// parsePEM reads public keys and certificates.
func parsePEM(text []byte) (all []verifier, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		var key any
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var certificate *x509.Certificate
			if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = certificate.PublicKey
			}
		default:
			return nil, fmt.Errorf("holds a block %q; give the public key, as `openssl pkey -pubout` prints it", block.Type)
		}
		v := verifier{key: key, algorithms: suited(key)}
		if err != nil || v.algorithms == nil {
			return nil, fmt.Errorf("holds a %s that is damaged or of another kind than RSA, EC (P-256, P-384, P-521) and Ed25519", strings.ToLower(block.Type))
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		return nil, errors.New("holds no PEM block; give public keys or certificates, as `openssl pkey -pubout` prints them")
	}
	return all, nil
}

// suited are the algorithms that a public key may be used with, nil for none.
func suited(key any) []string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return rsaAlgorithms
	case *ecdsa.PublicKey:
		if name, ok := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[key.Params().Name]; ok {
			return []string{name}
		}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}

// parseSet reads a JWKS. A key that cannot be used is left out; a set without one that can is an error.
func parseSet(text []byte) (all []verifier, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("the answer is not a set of keys (JSON with keys)")
	}
	for _, raw := range set.Keys[:min(len(set.Keys), keysMost)] {
		if v, ok := parseKey(raw); ok {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the answer has no public key that signs")
	}
	return all, nil
}

func parseKey(raw json.RawMessage) (v verifier, ok bool) {
	var m jwkset.JWKMarshal
	if json.Unmarshal(raw, &m) != nil || m.USE != "" && m.USE != jwkset.UseSig || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return v, false
	}
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", "" // which would be fetched, or be what is believed
	key, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return v, false
	}
	v = verifier{key: key.Key(), kid: m.KID, algorithms: suited(key.Key())}
	if m.ALG != "" && !(m.ALG == "Ed25519" && slices.Contains(v.algorithms, "EdDSA")) {
		v.algorithms = slices.DeleteFunc(slices.Clone(v.algorithms), func(a string) bool { return a != string(m.ALG) })
	}
	return v, len(v.algorithms) > 0
}
