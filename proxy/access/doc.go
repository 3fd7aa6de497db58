// Package access decides who may read a route, and for how long: it asks the application (AUTH=forward), verifies tokens (AUTH=jwt),
// seals tickets, and ends what clients were admitted with. It knows nothing of streams, and serves nothing.
//
// # Files
//
//   - access.go: [Guard], which a route with AUTH has. pass.go: [Pass], which an admitted client has. joint.go: several in one.
//   - forward.go: questions to the application. token.go: JWTs. keys.go, fetch.go: what they are verified with. claims.go: what is
//     known of a client.
//   - revalidate.go: asking again. revoke.go: what an operator has revoked. ticket.go: credentials in a URL.
//
// # Rules
//
//   - A stream's identity never admits anyone: strangers share it. What is asked, cached and revoked goes by the exact values that a
//     client came with.
//   - Nothing is cached without REVALIDATE but what is being asked just now, and what a token says until it expires.
//   - What cannot be known now ([ErrUnavailable]) is neither admitted nor refused, and ends nothing: a client is told to come back.
//   - Nothing of a token, cookie, ticket or key is in an error, a log or a metric.
//   - No cryptography of our own: signatures are golang-jwt's, the keys of a set jwkset's, tickets XChaCha20-Poly1305 of x/crypto.
//   - There is no goroutine and no timer for one client. Whatever runs ends with [Guard.Close], which waits.
package access
