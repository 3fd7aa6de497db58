package access

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// tokens verifies JWTs (RFC 7519).
type tokens struct {
	guard *Guard
	keys  *keys
}

// tokenMost bounds a token, in bytes: a header may hold more than is worth looking at.
const tokenMost = 16 << 10

// find returns the first token in the places where there may be one; "" none.
func (ts *tokens) find(c *Client) string {
	for _, at := range ts.guard.From {
		text := ""
		switch at.Kind {
		case "cookie":
			if cookie, err := (&http.Request{Header: c.Header}).Cookie(at.Name); err == nil {
				text = cookie.Value
			}
		case "query":
			text = c.Query(at.Name)
		default:
			scheme, rest, _ := strings.Cut(strings.TrimSpace(c.Header.Get("Authorization")), " ")
			if strings.EqualFold(scheme, "Bearer") {
				text = strings.TrimSpace(rest)
			}
		}
		if text != "" {
			return strings.Clone(text)
		}
	}
	return ""
}

// verify puts what a token says into p. It fails with a *[Denied], or [ErrUnavailable].
func (ts *tokens) verify(ctx context.Context, text string, p *Pass) error {
	if text == "" || len(text) > tokenMost {
		return &Denied{http.StatusUnauthorized, "there is no token where JWT_FROM says, or it is too large"}
	}
	claims, used, err := ts.parse(ctx, text)
	if errors.Is(err, jwt.ErrTokenSignatureInvalid) && used.vague && ts.keys.fetch.renew(ctx, used.generation) {
		claims, used, err = ts.parse(ctx, text)
	}
	if errors.Is(err, ErrUnavailable) {
		return ErrUnavailable
	}
	if err != nil {
		return &Denied{http.StatusUnauthorized, reason(err)}
	}
	p.generation = used.generation
	until, err := claims.GetExpirationTime()
	if err != nil || until == nil { // the parser has seen to it
		return &Denied{http.StatusUnauthorized, "the token has no exp"}
	}
	if issued, err := claims.GetIssuedAt(); err == nil && issued != nil {
		p.begun = issued.Time
	}
	p.until, p.token = until.Time, tokenClaims(claims, ts.guard.Claims)
	return nil
}

// parse verifies a token with the keys that there are for it.
func (ts *tokens) parse(ctx context.Context, text string) (claims jwt.MapClaims, used found, err error) {
	claims = jwt.MapClaims{}
	_, err = ts.parser().ParseWithClaims(text, claims, func(t *jwt.Token) (_ any, err error) {
		used, err = ts.candidates(ctx, t)
		return jwt.VerificationKeySet{Keys: used.all()}, err
	})
	return claims, used, err
}

func (ts *tokens) parser() *jwt.Parser {
	options := []jwt.ParserOption{jwt.WithExpirationRequired(), jwt.WithLeeway(skew), jwt.WithJSONNumber(), jwt.WithStrictDecoding(), jwt.WithValidMethods(algorithms)}
	if ts.guard.Issuer != "" {
		options = append(options, jwt.WithIssuer(ts.guard.Issuer))
	}
	if len(ts.guard.Audience) > 0 {
		options = append(options, jwt.WithAudience(ts.guard.Audience...))
	}
	return jwt.NewParser(options...)
}

// candidates are the keys that t may be signed with, by its kid and its algorithm, which has to be one of the key's own.
func (ts *tokens) candidates(ctx context.Context, t *jwt.Token) (found, error) {
	if _, critical := t.Header["crit"]; critical {
		return found{}, &Denied{http.StatusUnauthorized, "the token has extensions that have to be understood (crit)"}
	}
	kid, isText := t.Header["kid"].(string)
	if _, given := t.Header["kid"]; given && !isText {
		return found{}, &Denied{http.StatusUnauthorized, "the token's kid is no text"}
	}
	return ts.keys.find(ctx, kid, t.Method.Alg())
}

// reason is what is wrong with a token, without anything of it.
func reason(err error) string {
	var denied *Denied
	if errors.As(err, &denied) {
		return denied.Reason
	}
	for _, known := range []error{jwt.ErrTokenMalformed, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenExpired, jwt.ErrTokenNotValidYet, jwt.ErrTokenInvalidAudience,
		jwt.ErrTokenInvalidIssuer, jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenUnverifiable} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "the token is not valid"
}
