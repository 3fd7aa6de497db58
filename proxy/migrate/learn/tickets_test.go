package learn_test

import (
	"testing"
	"time"

	"sidestream/proxy/migrate/learn"
)

// TestTicket checks that what a page asks for before it dials is asked for before each dial.
func TestTicket(t *testing.T) {
	session := func(ticket string, after time.Duration) (*learn.Conversation, *learn.Answer) {
		c := talk(t, "/feed?v=2&ticket="+ticket, "sid=1", "< {\"n\":1}\n< {\"n\":2}")
		c.At = begin.Add(after + time.Second)
		a := polls(t, "/api/ticket", "sid=1", time.Second, `{"data":{"ticket":"`+ticket+`"}}`)[0]
		a.At, a.Method = begin.Add(after), "POST"
		return c, a
	}
	c1, a1 := session("Zk3j8Hq1aa", 0)
	c2, a2 := session("Qm9x2Lp7bb", time.Minute)
	o := seen(c1, c2)
	o.Answers = []*learn.Answer{a1, a2}
	r, _ := conclude(t, o)
	has(t, one(t, r), "FROM=ws://localhost:3000/feed?v=2", "TICKET=http://localhost:3000/api/ticket", `DIAL="ws://localhost:3000/feed?v=2&ticket="+(.data.ticket|@uri)`)
	o.Answers[1].Client = "another"
	r, _ = conclude(t, o)
	has(t, one(t, r), "TICKET=")
	o.Answers = o.Answers[:1]
	r, _ = conclude(t, o)
	has(t, one(t, r), "FROM=ws://localhost:3000/feed?v=2&ticket={query.ticket}", "TICKET=")
}
