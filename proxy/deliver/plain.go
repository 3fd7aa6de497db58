//go:build linux && !portable

// This file tells from a request's bytes whether it is the plainest there is (RFC 9112). The rules:
//
//   - It parses nothing for further use: net/http's parser does that. It only has to be stricter than that, and than what
//     net/http's server checks after it; a fuzz test holds the two together.
//   - One GET of a path, HTTP/1.0 or 1.1, complete and with nothing after it, CRLF at the end of each line, no byte that
//     is not printable ASCII, no line that goes on, one Host.
//   - No header that makes more of it than that: a body, an upgrade, an expectation, a connection of its own kind.

package deliver

import (
	"bytes"
	"strings"
)

// unusual are the headers that net/http's server treats specially.
var unusual = []string{"Content-Length", "Transfer-Encoding", "Trailer", "Te", "Expect", "Upgrade", "Http2-Settings", "Proxy-Connection", "Keep-Alive"}

// plain reports whether head is a plain request and nothing else.
func plain(head []byte) bool {
	target, rest, ok := bytes.Cut(head, crlf)
	if !ok || !plainLine(target) {
		return false
	}
	hosts := 0
	for {
		line, more, ok := bytes.Cut(rest, crlf)
		if !ok {
			return false
		}
		if len(line) == 0 {
			return len(more) == 0 && hosts == 1
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !plainField(name, value) {
			return false
		}
		if is(name, "Host") {
			hosts++
			if value = bytes.TrimSpace(value); len(value) == 0 || !all(value, hostByte) {
				return false
			}
		}
		rest = more
	}
}

var crlf = []byte("\r\n")

// plainLine reports whether a request's first line is one of a GET.
func plainLine(line []byte) bool {
	target, ok := bytes.CutPrefix(line, []byte("GET /"))
	if !ok {
		return false
	}
	target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	if !ok {
		if target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.0")); !ok {
			return false
		}
	}
	return all(target, func(c byte) bool { return c > ' ' && c <= '~' })
}

// plainField reports whether a header line is well-formed and nothing special.
func plainField(name, value []byte) bool {
	if len(name) == 0 || !all(name, nameByte) || !all(value, func(c byte) bool { return c >= ' ' && c <= '~' }) {
		return false
	}
	for _, special := range unusual {
		if is(name, special) {
			return false
		}
	}
	if is(name, "Connection") {
		value = bytes.TrimSpace(value)
		return is(value, "keep-alive") || is(value, "close")
	}
	return true
}

func is(name []byte, wanted string) bool {
	return len(name) == len(wanted) && strings.EqualFold(string(name), wanted)
}

func all(p []byte, ok func(byte) bool) bool {
	for _, c := range p {
		if !ok(c) {
			return false
		}
	}
	return true
}

func letter(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
}

// nameByte reports whether c may be in a header's name. Some more may (RFC 9110, section 5.6.2), in names that are not used.
func nameByte(c byte) bool { return letter(c) || c == '-' || c == '_' }

// hostByte reports whether c may be in a host. Some more may, in hosts that net/http is asked about.
func hostByte(c byte) bool {
	return letter(c) || c == '-' || c == '.' || c == ':' || c == '_' || c == '[' || c == ']'
}
