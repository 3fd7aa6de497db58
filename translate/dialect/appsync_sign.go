// This file is how requests to AppSync are authorized. Sources: the guides that appsync.go names; "AWS Signature Version 4 for API requests" of
// the IAM User Guide.

package dialect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// appSyncAuthorization are the headers that stand for a request.
type appSyncAuthorization map[string]string

// encoded is the authorization as a part of a subprotocol.
func (a appSyncAuthorization) encoded() string {
	return base64.RawURLEncoding.EncodeToString(jsonFrame(map[string]string(a)).Data)
}

// authorization is that of a POST of body to the API at a path. It is good for some minutes where it is signed, as long as the key or token elsewhere.
func (l appSyncLogin) authorization(path string, body []byte, now time.Time) appSyncAuthorization {
	switch {
	case l.APIKey != "":
		return appSyncAuthorization{"host": l.Host, "x-api-key": l.APIKey}
	case l.Token != "":
		return appSyncAuthorization{"host": l.Host, "Authorization": l.Token}
	}
	a := appSyncAuthorization{
		"accept":           "application/json, text/javascript",
		"content-encoding": "amz-1.0",
		"content-type":     "application/json; charset=UTF-8",
		"host":             l.Host,
	}
	if l.SessionToken != "" {
		a["x-amz-security-token"] = l.SessionToken
	}
	sigV4{l.AccessKeyID, l.SecretAccessKey, l.Region, "appsync"}.sign(a, "POST", path, body, now)
	return a
}

// sigV4 signs with a key of AWS's.
type sigV4 struct{ id, secret, region, service string }

const amzDate = "20060102T150405Z"

// sign adds x-amz-date and Authorization to the headers of a request without a query. Their names are in lower case, and all of them are signed.
func (s sigV4) sign(header map[string]string, method, escapedPath string, body []byte, now time.Time) {
	stamp := now.UTC().Format(amzDate)
	header["x-amz-date"] = stamp
	names := slices.Sorted(maps.Keys(header))
	signed := strings.Join(names, ";")
	request := method + "\n" + awsEscaped(escapedPath) + "\n\n"
	for _, name := range names {
		request += name + ":" + strings.Join(strings.Fields(header[name]), " ") + "\n"
	}
	request += "\n" + signed + "\n" + sha256Hex(body)
	scope := strings.Join([]string{stamp[:8], s.region, s.service, "aws4_request"}, "/")
	key := []byte("AWS4" + s.secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = hmacSHA256(key, part)
	}
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + sha256Hex([]byte(request))
	header["Authorization"] = "AWS4-HMAC-SHA256 Credential=" + s.id + "/" + scope + ", SignedHeaders=" + signed + ", Signature=" + hex.EncodeToString(hmacSHA256(key, text))
}

func hmacSHA256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// awsEscaped is a path, escaped already, as it is signed: escaped once more.
func awsEscaped(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~/", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
