// This file makes addresses and errors fit to be shown, in logs, in the status and by check, and is the only place that does. The rules:
//
//   - An address is shown without userinfo, query values and what of its path may be a secret: all of it where FROM was read from a
//     file, values of cookies and headers, and what looks like a token. Values of the path are shown otherwise: they name things.
//   - What went wrong between us and a service is shown by its kind, in our words. What libraries say of it quotes what the service
//     has sent.
//   - What an error says in a dialect's terms is shown without what the client or the configuration has given in confidence.

package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/coder/websocket"

	"sidestream/proxy/outbound"
	"sidestream/proxy/upstream/wsconn"
	"sidestream/translate"
)

// fault is an error of a library, shown by its kind.
type fault struct {
	kind string
	err  error
}

func (f *fault) Error() string { return f.kind }

// Unwrap returns the library's error, whose text is not to be shown.
func (f *fault) Unwrap() error { return f.err }

// Kind is err, of net/http or the WebSocket library, with a text that quotes nothing of what the other side has sent, nor an address.
// What it wraps stays what it is.
func Kind(err error) error {
	var already *fault
	if err == nil || errors.As(err, &already) {
		return err
	}
	return &fault{kindOf(err), err}
}

// ours are errors whose text is our own, or a library's own about us.
var ours = []error{errRepeated, errRedirects, context.Canceled, context.DeadlineExceeded, io.ErrUnexpectedEOF, io.EOF, net.ErrClosed}

func kindOf(err error) string {
	var network *net.OpError
	var closed websocket.CloseError
	var proxy *outbound.ProxyError
	var broken wsconn.Violation
	if errors.As(err, &broken) {
		return broken.Error()
	}
	if errors.As(err, &closed) {
		return fmt.Sprintf("closed with code %d", closed.Code)
	}
	if errors.As(err, &proxy) {
		shown := *proxy
		if shown.Err != nil {
			shown.Err = Kind(shown.Err)
		}
		return shown.Error()
	}
	if kind := certificateKind(err); kind != "" {
		return kind
	}
	if errors.As(err, &network) {
		return networkKind(*network)
	}
	for _, own := range ours {
		if errors.Is(err, own) {
			return own.Error()
		}
	}
	var late net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		return "timed out"
	}
	return textKind(err.Error())
}

// networkKind is addresses and what the system says, without the name of the call, which doubles that of the operation.
func networkKind(e net.OpError) string {
	var call *os.SyscallError
	if errors.As(e.Err, &call) {
		e.Err = call.Err
	}
	return e.Error()
}

// certificateKind is why TLS did not come about, "" when that is not what is wrong.
func certificateKind(err error) string {
	var name x509.HostnameError
	var signer x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var alert *net.OpError
	switch {
	case errors.As(err, &name):
		return "the upstream's certificate is for another name than " + name.Host
	case errors.As(err, &signer):
		return "the upstream's certificate is signed by an unknown authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the upstream's certificate has expired or is not yet valid"
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "the upstream's certificate is not valid"
	case errors.As(err, &record):
		return "the upstream does not speak TLS on this port"
	case errors.As(err, &alert) && alert.Op == "remote error" && slices.Contains(aboutClient, alert.Err.Error()):
		return "the upstream refuses the client's certificate, or that there is none (" + alert.Err.Error() + "); check UPSTREAM_CERT"
	}
	return ""
}

// aboutClient are the alerts with which a server says that a client's certificate is not what it wants (RFC 8446, section 6.2), in crypto/tls's words.
var aboutClient = []string{"tls: bad certificate", "tls: unsupported certificate", "tls: revoked certificate", "tls: expired certificate",
	"tls: unknown certificate", "tls: unknown certificate authority", "tls: access denied", "tls: certificate required"}

// h2Fault is how net/http tells an error of HTTP/2, without what the other side may have written.
var h2Fault = regexp.MustCompile(`(stream|connection) error: (stream ID [0-9]+; )?[A-Z_]+|server sent GOAWAY`)

// kinds tell faults by what libraries say of them.
var kinds = []struct{ said, kind string }{
	{"server gave HTTP response to HTTPS client", "the upstream does not speak TLS on this port"},
	{"tls:", "TLS failed"},
	{"x509:", "the upstream's certificate is not valid"},
	{"Location header", "redirected to something that is not an address"},
	{"unsupported protocol scheme", "redirected to something that is not an HTTP address"},
	{"response headers exceeded", "the header of the answer is too long"},
	{"header line too long", "a line of the answer is too long"},
	{"trailer", "the trailer of the answer is malformed"},
	{"malformed MIME", "the header of the answer is malformed"},
	{"malformed HTTP", "the answer is not HTTP"},
	{"Content-Length", "the answer's Content-Length is wrong"},
	{"transfer encoding", "the answer's Transfer-Encoding is not known"},
	{"transport connection broken", "the answer is not HTTP"},
	{"chunk", "the answer's chunks are malformed"},
	{"Sec-WebSocket-Protocol", "the answer to the upgrade has a Sec-WebSocket-Protocol that was not offered"},
	{"extensions from server", "the answer to the upgrade has an extension that was not offered"},
	{"permessage-deflate", "the answer to the upgrade has an extension that was not offered"},
	{"WebSocket prot", "the answer to the upgrade is not that of a WebSocket"},
	{"gzip:", "the answer is not the gzip that its header announces"},
	{"flate:", "compressed data is corrupt"},
	{"zlib:", "compressed data is corrupt"},
	{"switch protocol", "the upgrade was answered with another protocol"},
	{"expected handshake response", "the upgrade was answered with another status"},
	{"frame", "what was received is not a WebSocket frame"},
	{"close payload", "what was received is not a WebSocket frame"},
	{"status code", "what was received is not a WebSocket frame"},
	{"rsv bits", "what was received is not a WebSocket frame"},
	{"opcode", "what was received is not a WebSocket frame"},
	{"previous message", "what was received is not a WebSocket frame"},
	{"message", "what was received is not a WebSocket frame"},
	{"server closed idle connection", "the server closed the connection"},
	{"connection refused", "connection refused"},
	{"connection reset", "connection reset by peer"},
	{"invalid header field", "a header contains characters that none may"},
	{"URL", "the address is not valid"},
	{"invalid port", "the address is not valid"},
	{"http2", "HTTP/2 failed"},
	{"closed", "the connection is closed"},
}

// textKind is a fault's kind where only its text tells.
func textKind(text string) string {
	if found := h2Fault.FindString(text); found != "" {
		return "HTTP/2: " + found
	}
	for _, k := range kinds {
		if strings.Contains(text, k.said) {
			return k.kind
		}
	}
	return "the connection failed, or what came over it is not HTTP"
}

// Complaint is a line that net/http has written for a log, without what it quotes.
func Complaint(line string) string {
	line = strings.TrimSpace(line)
	const copying = "httputil: ReverseProxy read error during body copy: "
	if rest, ok := strings.CutPrefix(line, copying); ok {
		return copying + copyKind(rest)
	}
	line, _, _ = strings.Cut(line, "malformed MIME header") // of which net/http does not quote all
	return quoted.ReplaceAllString(line, "…")
}

// copyKind is textKind of an error whose text is all there is.
func copyKind(text string) string {
	for _, own := range ours {
		if text == own.Error() {
			return text
		}
	}
	return textKind(text)
}

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"?`)

// Shown is err, with which the source of q has failed, without what q holds in confidence. What it wraps stays what it is.
func (q *Request) Shown(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	shown := shownWord.ReplaceAllStringFunc(without(text, q.confidential()), func(word string) string {
		if translate.LooksSecret(word) {
			return "…"
		}
		return word
	})
	if shown == text {
		return err
	}
	return &fault{shown, err}
}

var shownWord = regexp.MustCompile(`[^\s/"'(),;=<>{}\[\]]+`)

// minSecret is how long a value is, in bytes, that is looked for in errors: shorter ones stand in any text.
const minSecret = 6

// without is text with each of values left out, the longest first.
func without(text string, values []string) string {
	slices.SortFunc(values, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, v := range values {
		if len(v) >= minSecret {
			text = strings.ReplaceAll(text, v, "…")
		}
	}
	return text
}

// confidential is what the client and the configuration have put into q that is for the upstream only.
func (q *Request) confidential() (all []string) {
	all = append(append(all, q.private...), q.Route.settings.Secrets.All()...)
	for _, v := range q.values {
		text, err := v.text.Sketch("")
		switch {
		case err != nil:
		case v.field == addressField:
			all = append(all, inAddress(text)...)
		case v.field == redisField:
			if at, err := parseRedisFrom(text); err == nil {
				all = append(all, at.Password)
			}
		case v.field == payloadField:
			all = append(all, inPayload(text)...)
		case v.field == headerField && !slices.Contains(public, v.header):
			all = append(all, parts(text)...)
		}
	}
	return all
}

// public are headers whose values are no secrets.
var public = []string{"Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Host", "Origin", "User-Agent"}

// parts are a header's value, and the values in it where there are several, as in Cookie and Authorization.
func parts(value string) []string {
	all := []string{value}
	for one := range strings.FieldsFuncSeq(value, func(r rune) bool { return strings.ContainsRune(" ;,", r) }) {
		_, assigned, ok := strings.Cut(one, "=")
		if ok && assigned != "" {
			one = strings.Trim(assigned, `"`)
		}
		if !slices.Contains([]string{"Bearer", "bearer", "Digest", "Negotiate"}, one) {
			all = append(all, one)
		}
	}
	return all
}

// inAddress are the userinfo and query values of an address.
func inAddress(address string) (all []string) {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	if password, ok := u.User.Password(); ok {
		all = append(all, password)
	}
	for _, values := range u.Query() {
		all = append(all, values...)
	}
	return all
}

// inPayload are the values in a frame that are secrets by their name or their looks: in JSON, or in lines of name:value.
func inPayload(text string) (all []string) {
	var parsed any
	if json.Unmarshal([]byte(text), &parsed) == nil {
		return inJSON("", parsed)
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && translate.NamesSecret(name) {
			all = append(all, strings.TrimSpace(value))
		}
	}
	return all
}

func inJSON(name string, v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			all = append(all, inJSON(key, value)...)
		}
	case []any:
		for _, value := range v {
			all = append(all, inJSON(name, value)...)
		}
	case string:
		if translate.NamesSecret(name) || translate.LooksSecret(v) {
			all = append(all, v)
		}
	}
	return all
}

// Redact returns address fit for logs and status: without userinfo, query values, and what of its path may be a secret.
func Redact(address string) string { return redact(address, false) }

// RedactAll is Redact of an address that is a secret as a whole, but for where it leads.
func RedactAll(address string) string { return redact(address, true) }

// redact is Redact, of an address whose whole path is a secret where hidden is set.
func redact(address string, hidden bool) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return "…"
	}
	rest, query, asked := strings.Cut(rest, "?")
	host, path, slash := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	out := scheme + "://" + host
	if slash {
		out += "/" + shownPath(path, hidden)
	}
	if !asked {
		return out
	}
	return out + "?" + shownQuery(query, hidden, strings.HasPrefix(scheme, "redis"))
}

// shownQuery is names without values, and nothing of what has no name. At a Redis the values name what is read there.
func shownQuery(query string, hidden, redis bool) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, value, valued := strings.Cut(pair, "=")
		switch {
		case redis && valued && !hidden && slices.Contains(redisNames, name) && !translate.LooksSecret(value):
		case valued && !hidden && !translate.LooksSecret(name):
			pairs[i] = name + "=…"
		default:
			pairs[i] = "…"
		}
	}
	return strings.Join(pairs, "&")
}

// shownPath is a path with … in place of segments that may be secrets.
func shownPath(path string, hidden bool) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		after := i > 0 && translate.NamesSecret(segments[i-1])
		s, _, parameters := strings.Cut(s, ";") // such as ;jsessionid=
		switch {
		case s != "" && (after || confided.MatchString(s) || hidden && !pathValue.MatchString(s) || translate.LooksSecret(s)):
			segments[i] = "…"
		case parameters:
			segments[i] = s + ";…"
		}
	}
	return strings.Join(segments, "/")
}

var (
	confided  = regexp.MustCompile(`\{(?:cookie|header)\.[^{}]*\}`)
	pathValue = regexp.MustCompile(`^\{path\.[^{}]*\}$`)
)
