package proxy

import (
	"fmt"
	"regexp"
	"strings"
)

// anyTarget stands for a request's target in those that are also sent to a route.
const anyTarget = "/_______"

// request is one of the table of TestHTTP11.
type rawRequest struct {
	name    string
	raw     string
	want    string // how the service's answer begins
	answers int    // at most so many are awaited
	// instead makes what comes through of the service's answer, and why says why it is another one. Nil: it is the same.
	instead func(service string) string
	why     string
}

func (r *rawRequest) method() string {
	method, _, _ := strings.Cut(strings.TrimLeft(r.raw, "\r\n"), " ")
	return method
}

const (
	isOK      = "HTTP/1.1 200"
	isVersion = "HTTP/1.1 505"
	isBad     = "HTTP/1.1 400"
)

// rawTable gathers requests.
type rawTable []rawRequest

// What the sidecar refuses itself.
const (
	refusal   = "HTTP/1.1 400 Bad Request\r\n%sContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nDate:\r\nContent-Length: %d\r\n\r\n%s\n"
	noRequest = "the request's method, target, Host, Upgrade or Trailer is malformed"
	noBody    = "the request's body cannot be read"
)

var (
	malformed  = fmt.Sprintf(refusal, "", len(noRequest)+1, noRequest)
	unreadable = fmt.Sprintf(refusal, "Connection: close\r\n", len(noBody)+1, noBody)
)

func (t *rawTable) add(name, raw, want string) *rawRequest {
	*t = append(*t, rawRequest{name: name, raw: raw, want: want, answers: 1})
	return &(*t)[len(*t)-1]
}

// becomes says that what the service is asked, and tells, comes through as something else.
func (r *rawRequest) becomes(was, is, why string) *rawRequest {
	r.why = why
	r.instead = func(answer string) string {
		head, body, whole := strings.Cut(answer, "\r\n\r\n")
		if !whole {
			return answer
		}
		size := strings.Count(body, was) * (len(is) - len(was))
		head = told.ReplaceAllStringFunc(head, func(line string) string {
			var n int
			fmt.Sscanf(line, "Content-Length: %d", &n)
			return fmt.Sprintf("Content-Length: %d", n+size)
		})
		return head + "\r\n\r\n" + strings.ReplaceAll(body, was, is)
	}
	return r
}

var told = regexp.MustCompile(`Content-Length: [0-9]+`)

// refused says that what the service may be asked does not come through.
func (r *rawRequest) refused(with, why string) *rawRequest {
	r.why, r.instead = why, func(string) string { return with }
	return r
}

// get adds a GET to a route and to the service, with these header lines.
func (t *rawTable) get(name, lines, want string) *rawRequest {
	return t.add(name, "GET "+anyTarget+" HTTP/1.1\r\nHost: h\r\n"+lines+"\r\n", want)
}

// post adds a POST with these header lines and body.
func (t *rawTable) post(name, lines, body, want string) *rawRequest {
	return t.add(name, "POST "+anyTarget+" HTTP/1.1\r\nHost: h\r\n"+lines+"\r\n"+body, want)
}

// requests is the table.
func requests() []rawRequest {
	var t rawTable
	t.lines()
	t.targets()
	t.methods()
	t.hosts()
	t.fields()
	t.connections()
	t.lengths()
	t.chunks()
	t.pipelined()
	return t
}

// lines are those of RFC 9112, sections 2 and 3.
func (t *rawTable) lines() {
	for v, want := range map[string]string{"1.1": isOK, "1.0": "HTTP/1.0 200", "0.9": isVersion, "1.2": isOK, "1.9": isOK, "2.0": isVersion, "3.0": isVersion, "1.10": isBad, "01.1": isBad,
		"1": isBad, "1.": isBad, "1.1 ": isBad, "-1.1": isBad, "a.b": isBad, "11": isBad, "1.1.1": isBad, "1,1": isBad} {
		t.add("version "+v, "GET "+anyTarget+" HTTP/"+v+"\r\nHost: h\r\n\r\n", want)
	}
	for _, proto := range []string{"http/1.1", "Http/1.1", "HTTP1.1", "HTTP /1.1", "HTTPS/1.1", "XTTP/1.1", "HTTP\\1.1", ""} {
		t.add("protocol "+proto, "GET "+anyTarget+" "+proto+"\r\nHost: h\r\n\r\n", isBad)
	}
	for name, line := range map[string]string{"no version": "GET " + anyTarget, "two blanks": "GET  " + anyTarget + " HTTP/1.1", "blanks before the version": "GET " + anyTarget + "  HTTP/1.1",
		"tabs": "GET\t" + anyTarget + "\tHTTP/1.1", "a blank first": " GET " + anyTarget + " HTTP/1.1", "a word more": "GET " + anyTarget + " x HTTP/1.1", "one word": "GET", "rubbish": "\x16\x03\x01",
		"nul": "GET \x00 HTTP/1.1", "colon first": ": x"} {
		t.add("line: "+name, line+"\r\nHost: h\r\n\r\n", isBad)
	}
	t.add("an empty line first", "\r\nGET "+anyTarget+" HTTP/1.1\r\nHost: h\r\n\r\n", isBad)
	t.add("LF alone", "GET "+anyTarget+" HTTP/1.1\nHost: h\n\n", isOK)
	t.add("LF and CRLF", "GET "+anyTarget+" HTTP/1.1\nHost: h\r\nA: b\n\r\n", isOK)
	t.add("CR alone at the end of a line", "GET "+anyTarget+" HTTP/1.1\rHost: h\r\n\r\n", isBad)
	t.add("CR alone in the header", "GET "+anyTarget+" HTTP/1.1\r\nHost: h\rA: b\r\n\r\n", isBad)
	t.add("CR CR LF", "GET "+anyTarget+" HTTP/1.1\r\r\nHost: h\r\n\r\n", isBad)
	t.add("CR CR LF in the header", "GET "+anyTarget+" HTTP/1.1\r\nHost: h\r\r\n\r\n", isBad)
}

// targets are those of section 3.2, and of URLs.
func (t *rawTable) targets() {
	for to, path := range map[string]string{"http://h/a": "/a", "http://h": "/", "http://h/": "/", "http://h:80/a?b": "/a?b", "HTTP://h/a": "/a", "https://h/a": "/a", "http://h/%41": "/%41", "http://h//a": "//a",
		"http://u:p@h/a": "/a", "http://other/a": "/a"} {
		t.add("target "+to, "GET "+to+" HTTP/1.1\r\nHost: h\r\n\r\n", isOK).becomes("GET "+to+" ", "GET "+path+" ", "section 3.2.1: a server that is no proxy is sent a path; the host is in Host")
	}
	for _, to := range []string{"/", "/a", "/a?b", "/?", "/a?", "/?a=b&c=d", "//a", "///", "/a//b", "/a/", "/./a", "/../a", "/a/..", "/a/%2e%2e/b", "/%2e", "/%41", "/%2F", "/%2f/x", "/a%0d%0ab",
		"/%00", "/%ff", "/a;b", "/a;b=c/d", "/a:b", "/:80/", "/[x]", "/{x}", "/a|b", "/a\\b", "/a^b", "/a`b", "/\"a\"", "/<a>", "/a'b", "/(a)", "/a*b", "/a!$&+,=@~", "/?a?b", "/?a#b", "/#a", "/a#b",
		"/?%zz", "/?a b"[:3], "/" + strings.Repeat("a", 1000), "/?" + strings.Repeat("q", 1000)} {
		t.add("target "+to[:min(len(to), 30)], "GET "+to+" HTTP/1.1\r\nHost: h\r\n\r\n", isOK)
	}
	for _, to := range []string{"a", "a/b", "?a", "/%zz", "/%", "/%4", "/a\x7f", "/a\x01", "http://[::1/a", "http://h:x/a", "http://a b/", ":80", "*a", "/a\x0bb", "/a\x0cb"} {
		t.add("target "+to, "GET "+to+" HTTP/1.1\r\nHost: h\r\n\r\n", isBad)
	}
	for _, to := range []string{"h:80", "mailto:a", "data:,a", "a:?b", "http:/a", "http:///a"} {
		t.add("target "+to, "GET "+to+" HTTP/1.1\r\nHost: h\r\n\r\n", isOK).refused(malformed, "section 3.2: that is none of the four forms")
	}
	t.add("target of bytes", "GET /caf\xe9 HTTP/1.1\r\nHost: h\r\n\r\n", isOK)
	t.add("target of UTF-8", "GET /café HTTP/1.1\r\nHost: h\r\n\r\n", isOK)
	t.add("asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", isOK)
	t.add("asterisk of a GET", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", isOK)
}

// methods are those of RFC 9110, section 9, and others.
func (t *rawTable) methods() {
	for _, m := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH", "QUERY", "get", "Get", "GETS", "X", "!#$%&'*+-.^_`|~1", strings.Repeat("M", 300)} {
		t.add("method "+m[:min(len(m), 20)], m+" "+anyTarget+" HTTP/1.1\r\nHost: h\r\n\r\n", isOK)
	}
	t.add("HEAD", "HEAD "+anyTarget+" HTTP/1.1\r\nHost: h\r\n\r\n", isOK)
	t.add("TRACE", "TRACE "+anyTarget+" HTTP/1.1\r\nHost: h\r\n\r\n", isOK)
	for _, m := range []string{"G@T", "G:T", "G/T", "(GET)", "GET,", "G\"T", "G\x00T", "GE\xe9", "[GET]", "{}"} {
		t.add(fmt.Sprintf("method %q", m), m+" "+anyTarget+" HTTP/1.1\r\nHost: h\r\n\r\n", isBad)
	}
}

// hosts are Host fields, RFC 9110, section 7.2.
func (t *rawTable) hosts() {
	for _, host := range []string{"h", "H", "h:80", "h:0", "h.", "a.b.c", "127.0.0.1", "[::1]", "[::1]:80", "a_b", "a-b", "xn--caf-dma", "a,b", "a%20b", "a;b", "a'b", "(a)", "a=b", "a!b", "h:x", "::1"} {
		t.add("host "+host, "GET "+anyTarget+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n", isOK)
	}
	for _, host := range []string{"u@h", "a b", "a/b", "a?b", "a#b", "a\\b", "a\"b", "a<b", "caf\xe9", "a\tb", "a^b", "{a}", "a|b"} {
		t.add(fmt.Sprintf("host %q", host), "GET "+anyTarget+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n", isBad)
	}
	for name, lines := range map[string]string{"none": "", "two, the same": "Host: h\r\nHost: h\r\n", "two": "Host: h\r\nHost: i\r\n", "a second that is empty": "Host: h\r\nHost:\r\n",
		"a blank before the colon": "Host : h\r\n"} {
		t.add("host: "+name, "GET "+anyTarget+" HTTP/1.1\r\n"+lines+"\r\n", isBad)
	}
	for name, lines := range map[string]string{"no blank": "Host:h\r\n", "blanks and tabs": "Host: \t h \t\r\n", "in capitals": "HOST: h\r\n", "last": "A: b\r\nHost: h\r\n"} {
		t.add("host: "+name, "GET "+anyTarget+" HTTP/1.1\r\n"+lines+"\r\n", isOK)
	}
	t.add("host: none in 1.0", "GET "+anyTarget+" HTTP/1.0\r\n\r\n", "HTTP/1.0 200").becomes(anyTarget+" \n", anyTarget+" an.address:port\n", "section 3.2: HTTP/1.1 goes to the service, and says a host")
	t.add("host: empty", "GET "+anyTarget+" HTTP/1.1\r\nHost:\r\n\r\n", isOK).refused(malformed, "the service is called by a name")
}

// fields are those of section 5 of both.
func (t *rawTable) fields() {
	for name, line := range map[string]string{"empty": "A:", "blanks": "A:   ", "tabs within": "A: b\tc", "bytes": "A: caf\xe9", "UTF-8": "A: café", "a colon": "A: b:c", "quotes": "A: \"b, c\"", "comma": "A: b, c",
		"digits": "1: b", "all that a name may have": "!#$%&'*+-.^_`|~1: b", "underscore": "A_B: c", "dot": "A.B: c", "one letter": "a: b", "spelled oddly": "aB-cD: e", "long value": "A: " + strings.Repeat("b", 3000),
		"long name": strings.Repeat("A", 300) + ": b"} {
		t.get("field: "+name, line+"\r\n", isOK)
	}
	for name, line := range map[string]string{"no colon": "A", "no name": ": b", "blank before the colon": "A : b", "tab before the colon": "A\t: b", "blank in the name": "A B: c", "at": "A@B: c", "slash": "A/B: c",
		"brackets": "A[0]: c", "braces": "{A}: c", "quotes in the name": "\"A\": b", "a name of bytes": "caf\xe9: b", "nul in the name": "A\x00: b", "nul": "A: b\x00c", "control": "A: b\x01c", "DEL": "A: b\x7fc",
		"escape": "A: \x1b[0m", "vertical tab": "A: b\x0bc", "form feed": "A: b\x0cc", "semicolon": "A;: b", "equals": "A=: b", "comma in the name": "A,B: c", "parentheses": "(A): b"} {
		t.get("field: "+name, line+"\r\n", isBad)
	}
	t.get("folded", "A: b\r\n c\r\n", isOK)
	t.get("folded by a tab", "A: b\r\n\tc\r\n", isOK)
	t.get("folded, nothing but a blank", "A: b\r\n \r\n", isOK).becomes("[\"b \"]", "[\"b\"]", "section 5.1: blanks after a value are none of it")
	t.add("folded first", "GET "+anyTarget+" HTTP/1.1\r\n Host: h\r\n\r\n", isBad)
	t.get("the same twice", "A: b\r\nA: c\r\n", isOK)
	t.get("the same in two spellings", "A: b\r\na: c\r\n", isOK)
	t.get("cookies twice", "Cookie: a=b\r\nCookie: c=d\r\n", isOK)
	t.get("a hundred", strings.Repeat("A: b\r\n", 100), isOK)
	for _, line := range []string{"Accept: text/event-stream", "Accept: */*", "Accept: text/html", "Accept: text/event-stream;q=0", "Accept:", "Authorization: Basic eDp5", "Range: bytes=0-1", "If-None-Match: \"a\"",
		"If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "Max-Forwards: 0", "Pragma: no-cache", "Cache-Control: no-cache", "Content-Type: text/plain", "Content-Encoding: gzip", "Accept-Encoding: gzip, br", "Accept-Encoding:",
		"User-Agent: x", "Referer: http://h/", "Origin: http://h", "Origin: null", "From: a", "Date: x", "Via: 1.1 x", "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "Last-Event-ID: 1", "Last-Event-ID: x"} {
		t.get(line, line+"\r\n", isOK)
	}
}

// taken adds one with a field that the service is not given.
func (t *rawTable) taken(name, lines, told, why string) {
	t.get(name, lines, isOK).becomes(told, "", why)
	t.add("1.0, "+name, "GET "+anyTarget+" HTTP/1.0\r\nHost: h\r\n"+lines+"\r\n", "HTTP/1.0 200").becomes(told, "", why)
}

// connections are fields that speak of the connection, RFC 9110, section 7.6.
func (t *rawTable) connections() {
	for _, line := range []string{"Connection: keep-alive", "Connection: close", "Connection: Close", "Connection: close, keep-alive", "Connection: keep-alive, close", "Connection:", "Connection: x",
		"Connection: close\r\nConnection: keep-alive", "Connection: Host", "TE: trailers", "Te: gzip", "Connection: TE\r\nTE: trailers", "Proxy-Connection: keep-alive", "Keep-Alive: timeout=5", "Upgrade: x", "Upgrade: h2c",
		"Connection: Upgrade", "Trailer: A", "Connection: keep-alive\r\nKeep-Alive: timeout=5, max=100"} {
		t.get(line, line+"\r\n", isOK)
		t.add("1.0, "+line, "GET "+anyTarget+" HTTP/1.0\r\nHost: h\r\n"+line+"\r\n\r\n", "HTTP/1.0 200")
	}
	t.taken("a field of the connection", "Connection: a\r\nA: b\r\n", "A: [\"b\"]\n", "RFC 9110, section 7.6.1: it is")
	t.taken("for a proxy", "Proxy-Authorization: x\r\n", "Proxy-Authorization: [\"x\"]\n", "RFC 9110, section 11.7.2: it is this hop's")
	t.taken("of a proxy", "Proxy-Authenticate: x\r\n", "Proxy-Authenticate: [\"x\"]\n", "RFC 9110, section 11.7.1: likewise")
	t.taken("no User-Agent", "User-Agent:\r\n", "User-Agent: [\"\"]\n", "net/http's client sends none that is empty")
	t.get("expecting what there is not", "Expect: x\r\n", "HTTP/1.1 417")
	t.get("expecting 100-continue without a body", "Expect: 100-continue\r\n", isOK)
}

// lengths are Content-Length and Transfer-Encoding, RFC 9112, section 6.
func (t *rawTable) lengths() {
	for name, lines := range map[string]string{"of the body": "Content-Length: 5\r\n", "zeros first": "Content-Length: 005\r\n", "blanks": "Content-Length: \t5 \r\n", "twice the same": "Content-Length: 5\r\nContent-Length: 5\r\n"} {
		t.post("length: "+name, lines, "hello", isOK)
	}
	for _, length := range []string{"+5", "-5", "5a", "a", "0x5", "5.0", "5,5", "5, 5", "5 5", "'5'", "9223372036854775808", "99999999999999999999", "5;", "\xb2", ""} {
		t.post(fmt.Sprintf("length %q", length), "Content-Length: "+length+"\r\n", "hello", isBad)
	}
	t.post("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello", isBad)
	t.post("no length", "", "", isOK)
	t.post("length 0", "Content-Length: 0\r\n", "", isOK)
	t.get("GET with a length of 0", "Content-Length: 0\r\n", isOK)
	t.add("GET with a body", "GET "+anyTarget+" HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", isOK)
	t.add("DELETE with a body", "DELETE "+anyTarget+" HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", isOK)
	t.add("HEAD with a body", "HEAD "+anyTarget+" HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", isOK)
	t.add("1.0 with a body", "POST "+anyTarget+" HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.0 200")
	for _, te := range []string{"identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "xchunked", "chunked;q=1", "\"chunked\"", "chunked,", ",chunked", "", "chunked\x0b", "deflate", "trailers"} {
		t.post(fmt.Sprintf("encoding %q", te), "Transfer-Encoding: "+te+"\r\n", "5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 ")
	}
	for _, te := range []string{"chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked"} {
		t.post(fmt.Sprintf("encoding %q", te), "Transfer-Encoding: "+te+"\r\n", "5\r\nhello\r\n0\r\n\r\n", isOK)
	}
	t.post("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 ")
	t.post("chunked and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 ")
	t.post("a length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 ")
	t.add("chunked in 1.0", "POST "+anyTarget+" HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.")
	t.add("chunked GET", "GET "+anyTarget+" HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", isOK)
	t.post("expected", "Content-Length: 5\r\nExpect: 100-continue\r\n", "hello", "HTTP/1.1 100")
	t.post("chunked, expected", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 100")
}

// chunks are bodies of section 7.1.
func (t *rawTable) chunks() {
	for name, body := range map[string]string{"empty": "0\r\n\r\n", "two": "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "zeros first": "005\r\nhello\r\n000\r\n\r\n", "hexadecimal": "a\r\n0123456789\r\n0\r\n\r\n", "in capitals": "A\r\n0123456789\r\n0\r\n\r\n",
		"extension": "5;a=b\r\nhello\r\n0\r\n\r\n", "extension in quotes": "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", "extension of the last": "5\r\nhello\r\n0;a\r\n\r\n", "blank after the size": "5 \r\nhello\r\n0\r\n\r\n",
		"binary": "4\r\n\x00\xff\r\n\r\n0\r\n\r\n"} {
		t.post("chunks: "+name, "Transfer-Encoding: chunked\r\n", body, "HTTP/1.1 200")
	}
	t.post("chunks: a trailer that was not announced", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nA: b\r\n\r\n", isOK).becomes("map[\"A\":[\"b\"]]", "map[]", "RFC 9110, section 6.5.1: it is let go of where it is not known to be wanted")
	for name, body := range map[string]string{"LF alone": "5\nhello\r\n0\r\n\r\n", "no size": "\r\nhello\r\n0\r\n\r\n", "no number": "x\r\nhello\r\n0\r\n\r\n", "a sign": "+5\r\nhello\r\n0\r\n\r\n", "a negative size": "-5\r\nhello\r\n0\r\n\r\n",
		"0x": "0x5\r\nhello\r\n0\r\n\r\n", "17 digits": "10000000000000005\r\nhello\r\n0\r\n\r\n", "no CRLF after the data": "5\r\nhello0\r\n\r\n", "more data than said": "4\r\nhello\r\n0\r\n\r\n",
		"a blank before the size": " 5\r\nhello\r\n0\r\n\r\n", "CR alone": "5\rhello\r\n0\r\n\r\n", "CR in an extension": "5;a\rb\r\nhello\r\n0\r\n\r\n"} {
		t.post("chunks: "+name, "Transfer-Encoding: chunked\r\n", body, isOK).refused(unreadable, "the service may have answered; the client is told what is wrong")
	}
	t.post("chunks: an announced trailer", "Transfer-Encoding: chunked\r\nTrailer: A\r\n", "5\r\nhello\r\n0\r\nA: b\r\n\r\n", isOK)
	t.post("chunks: a trailer that frames", "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n", "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 ")
}

// pipelined are several requests at once, section 9.3.2.
func (t *rawTable) pipelined() {
	const one = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
	const post = "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
	const chunked = "POST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	const last = "GET /4 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	for name, raw := range map[string]string{"two": one + last, "three": one + one + last, "a body between": one + post + last, "chunks between": one + chunked + last, "two bodies": post + chunked + last,
		"closed by the first": last + one, "a second that is none": one + "rubbish\r\n\r\n", "a second without a host": one + "GET / HTTP/1.1\r\n\r\n", "1.0 second": one + "GET / HTTP/1.0\r\nHost: h\r\n\r\n",
		"1.0 that stays": "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n" + last, "1.0 that does not": "GET / HTTP/1.0\r\nHost: h\r\n\r\n" + last} {
		t.add("pipelined: "+name, raw, "HTTP/1.").answers = 3
	}
}
