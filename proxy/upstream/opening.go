package upstream

import (
	"fmt"
	"strings"
)

// Mode is what a poll emits and how often it asks, or that an answer is read as it comes, for people; "" for other routes.
func (rt *Route) Mode() string {
	s := &rt.settings
	switch {
	case !rt.Polls():
		return ""
	case rt.Follows():
		return s.Mode + ", reads an answer that never ends"
	case s.Every == 0:
		return s.Mode + ", the next request at once after each answer"
	}
	return fmt.Sprintf("%s, every %v", s.Mode, s.Every)
}

// Opening is what HELLO does, for people, without what it sends; "" without one.
func (rt *Route) Opening() string {
	kinds := map[byte]string{'>': "sends", '=': "computes", '<': "waits", '!': "may refuse", '~': "may reconnect"}
	var all []string
	var last byte
	n := 0
	end := func() {
		if n > 0 {
			all = append(all, kinds[last])
			if n > 1 {
				all[len(all)-1] += fmt.Sprintf(" %d", n)
			}
		}
		n = 0
	}
	for _, st := range rt.steps {
		if st.headers() {
			continue
		}
		if st.mark != last || st.asks != nil {
			end()
		}
		if last = st.mark; st.asks != nil {
			all = append(all, "asks "+st.asks.method+" "+st.asks.shown)
			continue
		}
		n++
	}
	end()
	return strings.Join(all, ", ")
}
