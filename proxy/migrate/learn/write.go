package learn

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// write is the env file of a report.
func write(o *Observation, r *Report) string {
	var b strings.Builder
	comment(&b, "Learned by sidestream from %s, %s and %s.", sum(r.Seen.WebSockets, "WebSocket"), sum(r.Seen.Messages, "message"), sum(r.Seen.Answers, "answer"))
	comment(&b, "Look at it before it serves: sidestream -env-file THIS check, then tap ROUTE. What was not seen is not here.")
	if r.Full {
		comment(&b, "More has passed than is kept: what came last may be missing.")
	}
	for _, note := range r.Notes {
		comment(&b, "%s", note)
	}
	if o.Base != nil || o.Socket != "" {
		d := draft{base: o.Base, socket: o.Socket}
		fmt.Fprintf(&b, "\nSSE_UPSTREAM=%s\n", strings.TrimSuffix(d.service(false), ":"))
	}
	for i := range r.Routes {
		writeRoute(&b, &r.Routes[i])
	}
	return b.String()
}

func writeRoute(b *strings.Builder, rt *Route) {
	b.WriteByte('\n')
	what := sum(rt.Seen, "request")
	if rt.Transport == "websocket" {
		what = sum(rt.Seen, "WebSocket") + ", " + sum(rt.Messages, "message") + " of the service"
	}
	comment(b, "%s: %s", rt.Old, what)
	for _, note := range rt.Notes {
		comment(b, "%s", note)
	}
	for _, s := range rt.Settings {
		fmt.Fprintf(b, "SSE_ROUTE_%s_%s=%s\n", rt.Name, s.Name, quoted(s.Value))
	}
}

// quoted is a value as an env file has it.
func quoted(value string) string {
	if strings.Contains(value, "\n") || strings.HasPrefix(value, "'") || value != strings.TrimSpace(value) {
		return "'" + strings.ReplaceAll(value, "'", "") + "'"
	}
	return value
}

// comment writes lines that begin with #, without what could end them.
func comment(b *strings.Builder, format string, args ...any) {
	text := newlines.ReplaceAllString(fmt.Sprintf(format, args...), " ")
	fmt.Fprintf(b, "# %s\n", text)
}

// Table writes the routes of r for people.
func (r *Report) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(r.Routes) > 0 {
		fmt.Fprintln(t, "ROUTE\tNOW\tSPEAKS\tSEEN\tEVENTS AT")
	}
	for i := range r.Routes {
		rt := &r.Routes[i]
		speaks, seen := rt.Protocol, sum(rt.Seen, "WebSocket")
		if rt.Transport == "poll" {
			speaks, seen = "poll each "+rt.Get("EVERY"), sum(rt.Seen, "request")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", strings.ToLower(rt.Name), rt.Old, speaks, seen, rt.Path)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Routes) == 0 {
		fmt.Fprintln(w, "nothing that could be a route was seen")
	}
	for _, n := range r.Notes {
		if _, err := fmt.Fprintln(w, "note:", n); err != nil {
			return err
		}
	}
	return nil
}

// sum describes a count.
func sum(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
