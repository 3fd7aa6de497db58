// This file is what a request must be before anything is made of it. HTTP/2 carries as bytes what HTTP/1.1 cannot say (RFC 9113,
// section 8.3.1), and what goes to the service is HTTP/1.1: so one check stands for both. The rules:
//
//   - A target or method with a blank or a control character would be another request line, or another request.
//   - A target of a scheme without a host, such as mailto:a, is none of the forms there are (RFC 9112, section 3.2). It would be passed on as /.
//   - The authority becomes Host, and is that of one host.
//   - The names of trailers, and the protocols to switch to, are what net/http sends: it would fail for others as if the service had.
//   - A trailer is what its sender has announced, and nothing that a head alone may say (RFC 9110, section 6.5.1).

package proxy

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// wellFormed reports whether r can be said in HTTP/1.1.
func wellFormed(r *http.Request) bool {
	for i := range len(r.RequestURI) {
		if c := r.RequestURI[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	if r.URL.Scheme != "" && r.URL.Host == "" {
		return false
	}
	if !httpguts.ValidHostHeader(r.Host) || r.Host == "" && r.ProtoAtLeast(1, 1) {
		return false
	}
	for name := range r.Trailer {
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
	}
	for _, protocol := range r.Header["Upgrade"] {
		if strings.ContainsFunc(protocol, func(c rune) bool { return c < ' ' || c > '~' }) {
			return false
		}
	}
	return !strings.ContainsFunc(r.Method, func(c rune) bool { return !httpguts.IsTokenRune(c) })
}

// headSize is how many bytes r's line and header have, about as HTTP/1.1 writes them.
func headSize(r *http.Request) int {
	size := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	return size
}

// notInTrailers are the fields that frame, route, authenticate or forward a request, or say how it is to be read.
var notInTrailers = map[string]bool{
	"Authorization": true, "Cache-Control": true, "Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Range": true,
	"Content-Type": true, "Cookie": true, "Expect": true, "Forwarded": true, "Host": true, "Keep-Alive": true, "Max-Forwards": true, "Origin": true,
	"Pragma": true, "Range": true, "Referer": true, "Set-Cookie": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Via": true,
	"X-Real-Ip": true,
}

// trailer reports whether a trailer field of this name, in Go's spelling, goes to the service.
func trailer(name string) bool {
	for _, prefix := range []string{"Proxy-", "Sec-", "X-Forwarded-", "If-"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return !notInTrailers[name]
}

// announced is the trailers that r has announced and that go to the service, without their values.
func announced(r *http.Request) http.Header {
	h := http.Header{}
	for name := range r.Trailer {
		if trailer(name) {
			h[name] = nil
		}
	}
	return h
}
