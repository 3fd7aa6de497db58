package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

var ticketKey = "SSE_TICKET_KEY=" + strings.Repeat("ab", 32)

// ticket asks for a ticket for /a; head is what the request comes with.
func (s *sidecar) ticket(t *testing.T, body string, head ...string) (text string, status int) {
	t.Helper()
	head = append(head, fmt.Sprint("Content-Length: ", len(body)), "Content-Type: application/json", "", body)
	r := s.ask(t, "POST /_sidestream/ticket HTTP/1.1", head...)
	answer, _ := io.ReadAll(io.LimitReader(r.in, max(r.ContentLength, 0)))
	if r.StatusCode != 200 {
		return string(answer), r.StatusCode
	}
	var got struct {
		Ticket  string
		Expires int64
	}
	if err := json.Unmarshal(answer, &got); err != nil || got.Ticket == "" || r.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s %v", answer, err)
	}
	if left := time.Until(time.Unix(got.Expires, 0)); left < 50*time.Second || left > time.Minute {
		t.Errorf("it expires in %v", left)
	}
	return got.Ticket, 200
}

const forA = `{"paths":["/a"]}`

// What a ticket was asked for with takes the place of all that the request has, for AUTH and upstream.
func TestTickets(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe", "s=2": "ann"})
	s := serve(t, append(guarded(f, a, ticketKey), "SSE_ROUTE_A_HEADERS=X-Sent: {cookie.s}{header.Authorization:none}",
		"SSE_ROUTE_B_PATH=/b/{id}", "SSE_ROUTE_B_FROM="+f.ws()+"/ws?{query}&auth={header.Authorization}")...)
	var sent []string
	f.verify = func(r *http.Request) int { sent = append(sent, r.Header.Get("X-Sent")); return 0 }
	ticket, _ := s.ticket(t, forA, "Cookie: s=1")
	joe := s.get(t, "/a?ticket="+ticket, "Cookie: s=2", "Authorization: Bearer ann")
	f.publish(t, "u=joe", "for joe")
	joe.wantData(t, "for joe")
	twin := s.get(t, "/a?x&ticket="+ticket)
	f.publish(t, "u=joe", "for both")
	twin.wantData(t, "for both")
	if len(sent) != 1 || sent[0] != "1none" {
		t.Errorf("upstream were sent %q", sent)
	}
	bearer, _ := s.ticket(t, `{"paths":["/b/7","/a","/b/8"]}`, "Cookie: s=1", "Authorization: Bearer key")
	b := s.get(t, "/b/8?z=1&ticket="+bearer+"&y=2")
	f.publish(t, "z=1&y=2&auth=Bearer+key", "for b")
	b.wantData(t, "for b")
	if n := a.asked.Load(); n != 2 {
		t.Errorf("%d questions: a ticket has its answer", n)
	}
	for name, path := range map[string]string{"another path": "/b/7?ticket=" + ticket, "nonsense": "/a?ticket=x", "none": "/a", "cut": "/a?ticket=" + ticket[:len(ticket)-2]} {
		if r := s.get(t, path); r.StatusCode != 401 {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
}

func TestTicketRequests(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe", "s=4": "banned"})
	s := serve(t, append(guarded(f, a, ticketKey), "SSE_CORS_ORIGINS=https://app.example", "SSE_UPSTREAM="+f.URL)...)
	many := `{"paths":["/a"` + strings.Repeat(`,"/a"`, ticketPaths) + `]}`
	for _, test := range []struct {
		name, body string
		head       []string
		want       int
	}{
		{"good", forA, []string{"Cookie: s=1"}, 200},
		{"own origin", forA, []string{"Cookie: s=1", "Origin: http://" + s.addr}, 200},
		{"allowed origin", forA, []string{"Cookie: s=1", "Origin: https://app.example"}, 200},
		{"foreign origin", forA, []string{"Cookie: s=1", "Origin: https://evil.example"}, 403},
		{"foreign site", forA, []string{"Cookie: s=1", "Sec-Fetch-Site: cross-site"}, 403},
		{"no credentials", forA, nil, 401},
		{"not admitted", forA, []string{"Cookie: s=2"}, 401},
		{"forbidden", forA, []string{"Cookie: s=4"}, 403},
		{"no route", `{"paths":["/a","/c"]}`, []string{"Cookie: s=1"}, 400},
		{"an unclean path", `{"paths":["//a"]}`, []string{"Cookie: s=1"}, 400},
		{"a host", `{"paths":["//evil.example/a"]}`, []string{"Cookie: s=1"}, 400},
		{"a query", `{"paths":["/a?x"]}`, []string{"Cookie: s=1"}, 400},
		{"no path", `{"paths":[]}`, []string{"Cookie: s=1"}, 400},
		{"many", many, []string{"Cookie: s=1"}, 400},
		{"no JSON", `paths=/a`, []string{"Cookie: s=1"}, 400},
		{"large credentials", forA, []string{"Cookie: s=1", "Authorization: " + strings.Repeat("x", 7000)}, 413},
	} {
		if answer, status := s.ticket(t, test.body, test.head...); status != test.want || strings.Contains(answer, "s=1") {
			t.Errorf("%s: %d %s, want %d", test.name, status, answer, test.want)
		}
	}
	a.fail(500)
	if _, status := s.ticket(t, forA, "Cookie: s=1"); status != 503 {
		t.Errorf("a service that is down: %d", status)
	}
	if r := s.ask(t, "GET /_sidestream/ticket HTTP/1.1"); r.StatusCode != 405 {
		t.Error(r.StatusCode)
	}
	r := s.ask(t, "OPTIONS /_sidestream/ticket HTTP/1.1", "Origin: https://app.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
	if r.StatusCode != 204 || !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "Authorization") || r.Header.Get("Access-Control-Allow-Methods") != "POST, OPTIONS" {
		t.Error(r.StatusCode, r.Header)
	}
	a.fail(0)
	ticket, _ := s.ticket(t, forA, "Cookie: s=1", "Origin: https://app.example")
	for origin, want := range map[string]int{"Origin: https://app.example": 200, "X: ": 401, "Origin: http://" + s.addr: 401} {
		if r := s.get(t, "/a?ticket="+ticket, origin); r.StatusCode != want {
			t.Errorf("%s: %d, want %d", origin, r.StatusCode, want)
		}
	}
	own, _ := s.ticket(t, forA, "Cookie: s=1")
	if r := s.get(t, "/a?ticket="+own, "Origin: https://app.example"); r.StatusCode != 401 {
		t.Errorf("the sidecar's own ticket, from another origin: %d", r.StatusCode)
	}
}

// Without SSE_TICKET_KEY there is nothing of the kind, and a route's query is its own.
func TestNoTickets(t *testing.T) {
	f := newFeed(t)
	f.answer = jsonAnswer("the service's")
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws?{query}")
	asked := s.ask(t, "POST /_sidestream/ticket HTTP/1.1", "Cookie: s=1", "Content-Length: 2", "", "{}")
	if text, _ := asked.rest(); asked.StatusCode != 404 || text == "the service's" {
		t.Errorf("got %d %q", asked.StatusCode, text)
	}
	r := s.get(t, "/a?ticket=7")
	f.publish(t, "ticket=7", "1")
	r.wantData(t, "1")
}

// After its minute a ticket is for those who come back with an id, which is told to whoever finds no room as well.
func TestTicketsAreReused(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe"})
	s := serve(t, guarded(f, a, ticketKey, "SSE_TICKET_TTL=1s", "SSE_TICKET_REUSE=24h", "SSE_MAX_CLIENTS=1")...)
	body := s.ask(t, "POST /_sidestream/ticket HTTP/1.1", "Cookie: s=1", fmt.Sprint("Content-Length: ", len(forA)), "", forA)
	var got struct{ Ticket string }
	if err := json.NewDecoder(body.in).Decode(&got); err != nil {
		t.Fatal(err)
	}
	first := s.get(t, "/a?ticket="+got.Ticket)
	id := first.wantOpen(t)
	full := s.get(t, "/a?ticket="+got.Ticket)
	text, err := full.rest()
	if full.StatusCode != 200 || !strings.Contains(text, "event: stream.busy\ndata: {}\nid: 0-0\n") || errors.Is(err, io.EOF) {
		t.Fatalf("%d %q %v", full.StatusCode, text, err)
	}
	eventually(t, "its time is over", func() bool { return s.get(t, "/a?ticket="+got.Ticket).StatusCode == 401 })
	first.conn.Close()
	eventually(t, "there is room", func() bool { return s.all.Used() == 0 })
	f.publish(t, "u=joe", "meanwhile")
	back := s.get(t, "/a?ticket="+got.Ticket, "Last-Event-ID: "+id)
	back.wantData(t, "meanwhile")
	back.conn.Close()
	eventually(t, "there is room", func() bool { return s.all.Used() == 0 })
	waited := s.get(t, "/a?ticket="+got.Ticket, "Last-Event-ID: 0-0")
	waited.wantOpen(t) // as one that is new, and no gap
	for _, id := range []string{"", "a b", strings.Repeat("1", 200)} {
		if r := s.get(t, "/a?ticket="+got.Ticket, "Last-Event-ID: "+id); r.StatusCode != 401 {
			t.Errorf("%q: %d", id, r.StatusCode)
		}
	}
}
