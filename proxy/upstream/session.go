package upstream

import "fmt"

// A session id is chosen by the client and kept secret by it: with fewer characters it could be guessed.
const (
	minSession = 16
	maxSession = 128
)

// session is the id of the client's session, with SCOPE=session. The error is a *[BadRequest].
func (c *clientRequest) session() (string, error) {
	id := c.lookup("query", "session")
	if !ValidSession(id) {
		return "", &BadRequest{fmt.Sprintf("?session= must be %d to %d characters of A-Z a-z 0-9 _ -, chosen at random by the page", minSession, maxSession)}
	}
	return id, nil
}

// ValidSession reports whether id may name a session: 16 to 128 characters of [A-Za-z0-9_-].
func ValidSession(id string) bool {
	if len(id) < minSession || len(id) > maxSession {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
