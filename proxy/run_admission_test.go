package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Where there is no room for a client its request is not made: it may cost something, and a client that is told to come back would have it made again.
// Its place is free again whatever its request comes to.
func TestRunWithoutRoomIsNotStarted(t *testing.T) {
	for name, limit := range map[string]string{"route": "SSE_ROUTE_A_MAX_CLIENTS=1", "all": "SSE_MAX_CLIENTS=1", "address": "SSE_MAX_CLIENTS_PER_IP=1"} {
		t.Run(name, func(t *testing.T) {
			m := newModel(t)
			s := serve(t, runEnv(m, limit)...)
			const who = "Authorization: one"
			first, at := s.starts(t, "{}", who, "Idempotency-Key: k")
			a := <-m.asks
			a.say <- "data: 1\n\n"
			last := first.wantNext(t, "", "1")
			for _, key := range []string{"Idempotency-Key: k", "Idempotency-Key: k2", "X-None: 1"} {
				if r, _ := s.starts(t, "{}", who, key); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %d %v", key, r.StatusCode, r.Header)
				}
			}
			if status, text := s.status(t, "GET "+at, who); status != 200 || !strings.Contains(text, "stream.busy") || strings.Contains(text, "data: 1\n") {
				t.Errorf("GET: %d %s", status, text)
			}
			if n, h := m.count(), s.Routes()[0].Streams.Health(); n != 1 || h.Streams != 1 {
				t.Errorf("%d requests upstream, %d streams", n, h.Streams)
			}
			a.say <- "data: 2\n\n"
			last = first.wantNext(t, "", "2")
			close(a.say)
			first.rest()
			first.conn.Close()
			m.mu.Lock()
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				switch r.Header.Get("X-Version") {
				case "403":
					w.WriteHeader(403)
				case "201":
					w.WriteHeader(201)
					io.WriteString(w, "whole")
				default:
					return false
				}
				return true
			}
			m.mu.Unlock()
			post := func(body string, head ...string) int {
				r, _ := s.starts(t, body, append(head, who)...)
				defer r.conn.Close()
				if r.StatusCode == 200 && !strings.Contains(strings.Join(head, ""), "Idempotency") {
					close((<-m.asks).say)
				}
				io.ReadAll(r.in)
				return r.StatusCode
			}
			for want, do := range map[int]func() int{
				403: func() int { return post("{}", "X-Version: 403") },
				201: func() int { return post("{}", "X-Version: 201") },
				422: func() int { return post("other", "Idempotency-Key: k") },
				200: func() int { return post("{}") },
				404: func() int {
					status, _ := s.status(t, "GET "+at[:len(at)-26]+strings.Repeat("A", 26), who)
					return status
				},
				204: func() int {
					status, text := s.status(t, "GET "+at, who, "Last-Event-ID: "+last.id)
					if strings.Contains(text, "stream.busy") {
						return 503
					}
					return status
				},
			} {
				eventually(t, "an answer", func() bool {
					got := do()
					if got != want && got != 503 {
						t.Fatalf("%d, want %d", got, want)
					}
					return got == want
				})
			}
			eventually(t, "room", func() bool { return post("{}") == 200 })
		})
	}
}

// A ticket is in access logs: it is good for reading a run, not for starting or stopping one.
func TestRunTickets(t *testing.T) {
	m, app := newModel(t), newApp(t, map[string]string{"s=1": "joe"})
	s := serve(t, runEnv(m, ticketKey, "SSE_ROUTE_A_AUTH=forward", "SSE_ROUTE_A_AUTH_URL="+app.URL)...)
	r, at := s.starts(t, "{}", "Cookie: s=1")
	a := <-m.asks
	a.say <- "data: 1\n\n"
	r.wantNext(t, "", "1")
	ticket, _ := s.ticket(t, `{"paths":["/v1/chat"]}`, "Cookie: s=1")
	back := s.get(t, at+"&ticket="+ticket)
	back.wantNext(t, "", "1")
	for _, head := range []string{"Cookie: s=1", "X-None: 1"} {
		for _, id := range []string{"Last-Event-ID: 0000000000000001-1", "X-None: 2"} {
			for _, line := range []string{"POST /v1/chat?ticket=" + ticket, "DELETE " + at + "&ticket=" + ticket} {
				if status, text := s.status(t, line, head, id, "Content-Length: 0"); status != 401 || !strings.Contains(text, "ticket") {
					t.Errorf("%.20s with %s: %d %s", line, head, status, text)
				}
			}
		}
	}
	a.say <- "data: 2\n\n"
	back.wantNext(t, "", "2")
	if m.count() != 1 {
		t.Errorf("%d requests upstream", m.count())
	}
}
