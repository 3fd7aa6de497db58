package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// subscribed is an operation at a graphQL service.
type subscribed struct {
	cookie  string
	payload string
	conn    *websocket.Conn
}

// graphQL is a legacy service that speaks graphql-transport-ws. What its operations come to the test says.
type graphQL struct {
	*httptest.Server
	mu    sync.Mutex
	open  []*subscribed
	total int
	gone  int
	posts []string // of requests that are passed through
	deny  string   // a message that answers each operation
}

func newGraphQL(t *testing.T) *graphQL {
	s := new(graphQL)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() { s.cut(); s.CloseClientConnections(); s.Server.Close() })
	return s
}

func (s *graphQL) serve(w http.ResponseWriter, r *http.Request) {
	if !upgrades(r) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.posts = append(s.posts, r.Method+" "+string(body))
		s.mu.Unlock()
		io.WriteString(w, "the service itself")
		return
	}
	if r.Header.Get("Cookie") == "sid=none" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	one := &subscribed{cookie: r.Header.Get("Cookie"), conn: c}
	for {
		_, data, err := c.Read(context.Background())
		if err != nil {
			break
		}
		var m struct {
			Type    string
			Payload json.RawMessage
		}
		json.Unmarshal(data, &m)
		switch m.Type {
		case "connection_init":
			one.say(`{"type":"connection_ack"}`)
		case "ping":
			one.say(`{"type":"pong"}`)
		case "subscribe":
			s.mu.Lock()
			one.payload = string(m.Payload)
			s.open = append(s.open, one)
			s.total++
			deny := s.deny
			s.mu.Unlock()
			if deny != "" {
				one.say(deny)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone++
	s.open = slices.DeleteFunc(s.open, func(other *subscribed) bool { return other == one })
}

func (o *subscribed) say(text string) {
	o.conn.Write(context.Background(), websocket.MessageText, []byte(text))
}

// says has the operations of a cookie come to a frame, once there is one.
func (s *graphQL) says(t *testing.T, cookie, frame string) {
	t.Helper()
	of := func() (all []*subscribed) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, one := range s.open {
			if one.cookie == cookie {
				all = append(all, one)
			}
		}
		return all
	}
	eventually(t, "a subscription of "+cookie, func() bool { return len(of()) > 0 })
	for _, one := range of() {
		one.say(frame)
	}
}

func (s *graphQL) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.open {
		one.conn.CloseNow()
	}
}

// count is how many operations there are now, and have been.
func (s *graphQL) count() (open, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open), s.total
}

func faceEnv(s *graphQL, more ...string) []string {
	return append([]string{"SSE_UPSTREAM=" + s.URL, "SSE_ROUTE_A_PATH=/graphql", "SSE_ROUTE_A_FROM=ws" + strings.TrimPrefix(s.URL, "http") + "/graphql",
		"SSE_ROUTE_A_PROTOCOL=graphql-transport-ws", "SSE_ROUTE_A_FACE=graphql-sse", "SSE_ROUTE_A_FORWARD=Cookie", "SSE_ROUTE_A_RETRY=100ms"}, more...)
}

const ticksBody = `{"query":"subscription T($r: Int) { tick(r: $r) { n } }","variables":{"b":1,"a":2}}`

// operate sends an operation by POST.
func (s *sidecar) operate(t *testing.T, body string, head ...string) *response {
	t.Helper()
	head = append([]string{"Accept: text/event-stream", "Content-Type: application/json; charset=utf-8"}, head...)
	return s.ask(t, "POST /graphql HTTP/1.1", append(head, fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))...)
}

func (r *response) wantNext(t *testing.T, name, data string) event {
	t.Helper()
	e := r.nextAny(t)
	if e.name != name || e.data != data {
		t.Fatalf("got %+v, want %s %s", e, name, data)
	}
	return e
}

// nextAny is the next event whatever it is, stream.open included; data without a blank is empty.
func (r *response) nextAny(t *testing.T) (e event) {
	t.Helper()
	for {
		line, err := r.in.ReadString('\n')
		if err != nil {
			t.Fatalf("no event: %v", err)
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.name = value
		case "data":
			e.data += value
		case "id":
			e.id = value
		case "":
			if value == "" && strings.TrimSpace(line) == "" {
				return e
			}
		}
	}
}
