package peer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// path is where peers are asked. Another version of what they say has another one.
const path = "/_sidestream/peer/1"

// mark is the header that signs requests and answers.
const mark = "Sidestream-Peer"

// MinSecret is how many bytes a secret has at least.
const MinSecret = 16

const nonceSize = 16

// ticket is what signs a request.
type ticket struct {
	to    string // the replica that is asked
	at    int64  // ms since 1970
	nonce string // hex
	body  string // digest, hex
	mac   string // hex
}

// String is the header's value.
func (t ticket) String() string {
	return "to=" + t.to + ", time=" + strconv.FormatInt(t.at, 10) + ", nonce=" + t.nonce + ", body=" + t.body + ", mac=" + t.mac
}

var errTicket = errors.New("the header " + mark + " is missing or malformed")

// parseTicket reads a header's value, which has each part once and in order.
func parseTicket(s string) (t ticket, err error) {
	parts := strings.Split(s, ", ")
	values := make([]string, 5)
	for i, name := range []string{"to=", "time=", "nonce=", "body=", "mac="} {
		if len(parts) != len(values) {
			return t, errTicket
		}
		var ok bool
		if values[i], ok = strings.CutPrefix(parts[i], name); !ok {
			return t, errTicket
		}
	}
	t = ticket{to: values[0], nonce: values[2], body: values[3], mac: values[4]}
	t.at, err = strconv.ParseInt(values[1], 10, 64)
	if err != nil || strconv.FormatInt(t.at, 10) != values[1] || !isHex(t.nonce, nonceSize) || !isHex(t.body, sha256.Size) || !isHex(t.mac, sha256.Size) {
		return ticket{}, errTicket
	}
	return t, nil
}

// isHex reports whether s is size bytes in lower-case hex.
func isHex(s string, size int) bool {
	return len(s) == 2*size && strings.Trim(s, "0123456789abcdef") == ""
}

// sign returns the MAC under secret of a request with this method and target.
func (t ticket) sign(secret, method, target string) string {
	return sum(secret, "sidestream peer request 1", method, target, t.to, strconv.FormatInt(t.at, 10), t.nonce, t.body)
}

// signAnswer returns the MAC under secret of an answer to the request with this nonce.
func signAnswer(secret, nonce, word, argument string) string {
	return sum(secret, "sidestream peer answer 1", nonce, word, argument)
}

// sum is the HMAC-SHA256 of lines, none of which holds a newline, in hex.
func sum(secret string, lines ...string) string {
	m := hmac.New(sha256.New, []byte(secret))
	for _, line := range lines {
		m.Write([]byte(line + "\n"))
	}
	return hex.EncodeToString(m.Sum(nil))
}

// equal compares MACs in a time that does not depend on where they differ.
func equal(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// digest is the SHA-256 of b, in hex.
func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// signer returns the one of secrets under which t is signed; false: none.
func (t ticket) signer(secrets []string, method, target string) (secret string, ok bool) {
	for _, s := range secrets {
		if equal(t.sign(s, method, target), t.mac) && !ok {
			secret, ok = s, true
		}
	}
	return secret, ok
}

// skew is how far a request's time may be from the clock of the one asked.
const skew = 30 * time.Second

// inTime reports whether the request was made about now.
func (t ticket) inTime(now time.Time) bool {
	return t.at >= now.Add(-skew).UnixMilli() && t.at <= now.Add(skew).UnixMilli()
}
