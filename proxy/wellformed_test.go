package proxy

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// askH2 sends one request of these fields as they are, over HTTP/2 without TLS, and returns the answer's status; "" when the
// stream or the connection was ended instead.
func askH2(t *testing.T, addr string, fields ...hpack.HeaderField) (status string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		encoder.WriteField(f)
	}
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: block.Bytes()})
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return ""
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

func h2Fields(method, authority, path string, more ...string) []hpack.HeaderField {
	fields := []hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}}
	if authority != "-" {
		fields = append(fields, hpack.HeaderField{Name: ":authority", Value: authority})
	}
	fields = append(fields, hpack.HeaderField{Name: ":path", Value: path})
	for i := 0; i+1 < len(more); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: more[i], Value: more[i+1]})
	}
	return fields
}

// TestWhatHTTP11CannotSayIsRefused, on every path that leads to the service, and is nobody's fault but the client's: no 502, and
// no line that somebody reads at night.
func TestWhatHTTP11CannotSayIsRefused(t *testing.T) {
	asked := make(chan string, 100)
	service := legacy(t, func(_ http.ResponseWriter, r *http.Request) { asked <- r.Method + " " + r.RequestURI + " " + r.Host })
	var log bytes.Buffer
	c := configure(t, "SSE_UPSTREAM="+service, "SSE_TUNNEL=/ws", "SSE_ROUTE_A_PATH=/a/{id}", "SSE_ROUTE_A_FROM="+service+"/poll/{path.id}")
	s := serveWith(t, c, slog.New(slog.NewTextHandler(&log, nil)))
	for name, fields := range map[string][]hpack.HeaderField{
		"blank in the target":    h2Fields("GET", "h", "/admin HTTP/1.1"),
		"blank in the query":     h2Fields("GET", "h", "/x?a b"),
		"another request":        h2Fields("GET", "h", "/ HTTP/1.1 X-Y: z"),
		"tab":                    h2Fields("GET", "h", "/a\tb"),
		"a tunnel's target":      h2Fields("POST", "h", "/_sidestream/tunnel/ws x"),
		"a route's":              h2Fields("GET", "h", "/a/b c", "accept", "text/event-stream"),
		"blank in the authority": h2Fields("GET", "h evil", "/"),
		"slash in the authority": h2Fields("GET", "h/x", "/"),
		"no authority":           h2Fields("GET", "-", "/"),
		"an empty authority":     h2Fields("GET", "", "/"),
		"blank in the method":    h2Fields("GET /admin", "h", "/"),
		"colon in the method":    h2Fields("G:T", "h", "/"),
	} {
		if status := askH2(t, s.addr, fields...); status != "400" && status != "" {
			t.Errorf("%s: answered %s", name, status)
		}
	}
	for _, head := range []string{"GET / HTTP/1.1\r\nHost: \r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "G:T / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: caf\xe9\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: web\tsocket\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: a b\r\n\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-\xe9\r\n\r\n0\r\n\r\n"} {
		if res, _ := send(t, s.addr, "GET", head); res.StatusCode != 400 {
			t.Errorf("%q: answered %s", head, res.Status)
		}
	}
	select {
	case got := <-asked:
		t.Errorf("the service was asked: %q", got)
	default:
	}
	for _, fields := range [][]hpack.HeaderField{h2Fields("GET", "h:81", "/x%20y?a=%20"), h2Fields("PROPFIND", "[::1]", "/")} {
		if status := askH2(t, s.addr, fields...); status != "200" {
			t.Errorf("%v: answered %s", fields, status)
		}
	}
	if strings.Contains(log.String(), "level=WARN") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("it was logged: %s", &log)
	}
}

// TestPathValuesDoNotClimb by backslashes either, which some servers take for slashes.
func TestPathValuesDoNotClimb(t *testing.T) {
	asked := make(chan string, 100)
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) { asked <- r.RequestURI; io.WriteString(w, "1") })
	s := serve(t, "SSE_ROUTE_A_PATH=/a/{id}", "SSE_ROUTE_A_FROM="+service+"/poll/{path.id}")
	for _, id := range []string{`..\..\admin`, `x\..\..\admin`, "..%5Cadmin", "..;x=1"} {
		if r := s.get(t, "/a/"+id); r.StatusCode != 400 {
			t.Errorf("%s: answered %s", id, r.Status)
		}
	}
	if r := s.get(t, `/a/x\y..z`); r.StatusCode != 200 {
		t.Errorf("a harmless backslash: answered %s", r.Status)
	}
	if got := <-asked; got != "/poll/x%5Cy..z" {
		t.Errorf("asked for %s", got)
	}
}
