package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// This file holds the ways by which a request of HTTP/1.1 (RFC 9110, 9112) is answered against each other: past net/http, by net/http, and by the
// service behind, with which the same net/http answers what it is asked itself. The requests are in http11_table_test.go.

// doors is where the same request may be sent to.
type doors struct {
	past, by string // a sidecar that answers plain requests past net/http, and one that has it answer all of them
	service  string
}

// openDoors starts them. The route /events has five events, which each client is given; all else is the service's.
func openDoors(t *testing.T) doors {
	service, source := legacy(t, tellRequest), newFeed(t)
	env := []string{"SSE_UPSTREAM=" + service, "SSE_ROUTE_A_PATH=/events", "SSE_ROUTE_A_FROM=" + source.ws() + "/ws", "SSE_ROUTE_A_START=all", "SSE_HEARTBEAT=1h"}
	d := doors{service: strings.TrimPrefix(service, "http://")}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	past, by := serve(t, env...), serveOn(t, l, configure(t, env...), slog.New(slog.DiscardHandler))
	d.past, d.by = past.addr, by.addr
	clients := []*response{past.get(t, "/events"), by.get(t, "/events")} // which stay, so that the streams do
	for range clients {
		<-source.joined
	}
	for i := range 5 {
		source.publish(t, "", fmt.Sprint(i))
		for _, r := range clients {
			r.wantData(t, fmt.Sprint(i))
		}
	}
	return d
}

// ofConnection are fields of a connection (RFC 9110, section 7.6.1), and Content-Length, which is told apart.
var ofConnection = map[string]bool{"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Upgrade": true, "Content-Length": true}

// tellRequest answers with what was asked, whole, as a service sees it.
func tellRequest(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\nlength %d, %v, %v\n", r.Method, r.RequestURI, r.Host, r.ContentLength, r.TransferEncoding, err)
	var names []string
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !strings.HasPrefix(name, "X-Forwarded-") && !ofConnection[name] {
			fmt.Fprintf(&b, "%s: %q\n", name, r.Header[name])
		}
	}
	fmt.Fprintf(&b, "body %q, trailer %q\n", body, r.Trailer)
	for name, value := range map[string]string{"Content-Length": fmt.Sprint(b.Len()), "Content-Type": "text/plain", "Date": time.Now().UTC().Format(http.TimeFormat)} {
		w.Header().Set(name, value) // else their order is another one
	}
	w.Write(b.Bytes())
}

// bytewise sends each byte on its own.
func bytewise(request string) []string { return strings.Split(request, "") }

// lastLate holds back a request's last byte.
func lastLate(request string) []string {
	return []string{request[:len(request)-1], request[len(request)-1:]}
}

// exchange sends a request's parts, one after the other, and returns what comes: answers is how many that are complete are read at most; an event
// stream is read up to its fifth event. Then, or where the connection is ended, the rest is not read.
func (d doors) exchange(addr string, parts []string, method string, answers int) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	sent := make(chan struct{})
	go func() { // ends with the connection
		defer close(sent)
		for i, part := range parts {
			if _, err := io.WriteString(conn, part); err != nil {
				return // it is refused before it is whole
			}
			if i < len(parts)-1 && len(parts) < 10 {
				<-time.After(20 * time.Millisecond) // so that they arrive one by one
			}
		}
	}()
	defer func() { conn.Close(); <-sent }()
	var all bytes.Buffer
	in := bufio.NewReader(io.TeeReader(conn, &all))
	for range answers {
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		for err == nil && res.StatusCode == http.StatusContinue {
			res, err = http.ReadResponse(in, &http.Request{Method: method})
		}
		if err != nil {
			return ended(all.String(), err)
		}
		if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
			for body := bufio.NewReader(res.Body); ; {
				line, err := body.ReadString('\n')
				if err != nil {
					return ended(all.String(), err)
				}
				if line == "data: 4\n" {
					return all.String()[:strings.Index(all.String(), "data: 4\n")], nil
				}
			}
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil && !(res.Close && errors.Is(err, syscall.ECONNRESET)) { // which ends an answer as well
			return ended(all.String(), err)
		}
	}
	return all.String(), nil
}

// ended is what was read up to an end, however that was said; it is an error where none has come.
func ended(text string, err error) (string, error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return text, err
	}
	return text + "(the end)", nil
}

// plainly is an answer without what is another one's each time: dates, ids, hints and with them the sizes of chunks.
func plainly(answer string) string {
	var lines []string
	head := true
	for line := range strings.SplitSeq(answer, "\n") {
		switch {
		case head && line == "\r":
			head = false
		case strings.HasPrefix(line, "HTTP/1."): // the next answer
			head = true
		case head && strings.HasPrefix(line, "Date: "):
			line = "Date:\r"
		case !head && (strings.HasPrefix(line, "id: ") || strings.HasPrefix(line, "retry: ")):
			line, _, _ = strings.Cut(line, " ")
		case !head && chunkSize(line):
			continue
		}
		lines = append(lines, line)
	}
	return anyAddress.ReplaceAllString(strings.Join(lines, "\n"), "an.address:port")
}

// anyAddress is as long as what stands for it.
var anyAddress = regexp.MustCompile(`127\.0\.0\.1:[0-9]{5}`)

func chunkSize(line string) bool {
	size, ok := strings.CutSuffix(line, "\r")
	return ok && strings.Trim(size, "0123456789abcdef") == ""
}

// status is an answer's first line, or how it ends without one.
func status(answer string) string {
	line, _, _ := strings.Cut(answer, "\r\n")
	return line
}

// TestHTTP11 sends each request whole, in halves, with its last byte late and byte by byte: to a route, past net/http and by it; through to the
// service, by both; and to the service itself. All answers are the same, byte by byte, but for what the table says.
func TestHTTP11(t *testing.T) {
	d := openDoors(t)
	cases := requests()
	if len(cases) < 200 {
		t.Errorf("only %d requests", len(cases))
	}
	seed := time.Now().UnixNano()
	t.Logf("%d requests, seed %d", len(cases), seed)
	next := make(chan rawRequest)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { // ends with next
			for c := range next {
				random := rand.New(rand.NewPCG(uint64(seed), uint64(len(c.raw))))
				cut := 1 + random.IntN(len(c.raw)-1)
				for _, way := range [][]string{{c.raw}, {c.raw[:cut], c.raw[cut:]}, lastLate(c.raw), bytewise(c.raw)} {
					if !c.hold(t, d, way, cut) {
						break
					}
				}
			}
		})
	}
	for _, c := range cases {
		next <- c
	}
	close(next)
	all.Wait()
}

// hold sends a request in parts everywhere, and reports whether the answers were what they have to be.
func (c *rawRequest) hold(t *testing.T, d doors, parts []string, cut int) (isSo bool) {
	isSo = true
	fault := func(format string, args ...any) {
		isSo = false
		t.Errorf("%s, in %d parts, cut at %d: %s", c.name, len(parts), cut, fmt.Sprintf(format, args...))
	}
	ask := func(addr string, parts []string) string {
		answer, err := d.exchange(addr, parts, c.method(), c.answers)
		if err != nil {
			fault("%v after %.300q", err, answer)
		}
		return plainly(answer)
	}
	service := ask(d.service, parts)
	want := service
	if c.instead != nil {
		if want = c.instead(service); want == service && len(parts) == 1 {
			fault("the service's answer needs no change: %.300q", service)
		}
	}
	if strings.Contains(c.raw, anyTarget) {
		on := slices.Clone(parts)
		for i := range on {
			on[i] = strings.Replace(on[i], anyTarget, "/events", 1) // a part that has but half of it stays what it is
		}
		if len(parts) == len(c.raw) {
			on = bytewise(strings.Replace(c.raw, anyTarget, "/events", 1))
		}
		past, by := ask(d.past, on), ask(d.by, on)
		if past != by {
			fault("by a route\npast net/http %.600q\nby net/http   %.600q", past, by)
		}
		if c.method() == "GET" && status(past) != status(want) {
			fault("by a route %.300q, by the service %.300q", past, want)
		}
	}
	for name, addr := range map[string]string{"past net/http": d.past, "by net/http": d.by} {
		if through := ask(addr, parts); through != want {
			fault("passed through, %s\nservice %.900q\nthrough %.900q", name, want, through)
		}
	}
	if !strings.HasPrefix(status(service), c.want) {
		fault("the service answers %.300q, want %s", service, c.want)
	}
	return isSo
}
