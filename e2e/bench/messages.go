//go:build linux

// This file is what jq costs a message, one stream and one client: programs that are recognised and run without gojq, beside the same by gojq, and beside none.

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// programs are the servers of this part, by the settings of their route. A pattern, as $x, is left to gojq.
var programs = []struct{ name, title, setting string }{
	{"raw", "no program", ""},
	{"select", `SELECT=select(.symbol=="BENCH")`, `SELECT=select(.symbol=="BENCH")`},
	{"selectjq", "the same, by gojq", `SELECT=select(.symbol=="BENCH") as $x|$x`},
	{"members", "DATA={t,symbol,text}", "DATA={t,symbol,text}"},
	{"membersjq", "the same, by gojq", "DATA={t,symbol,text} as $x|$x"},
}

// earlier is what the names of servers of an earlier binary end with.
const earlier = ", earlier"

// programOf is the setting of a server's route.
func programOf(server string) (env []string) {
	for _, p := range programs {
		if p.name == strings.TrimSuffix(server, earlier) && p.setting != "" {
			env = append(env, "SSE_ROUTE_FEED_"+p.setting)
		}
	}
	return env
}

// costOfMessages measures.
func (b *bench) costOfMessages(only string) error {
	for _, p := range programs {
		if only != "" && !slices.Contains(strings.Split(only, ","), p.name) {
			continue
		}
		of := []string{p.name}
		if b.beside != "" {
			of = append(of, p.name+earlier)
		}
		for _, name := range of {
			s, err := b.startServer(name, "load")
			if err != nil {
				return err
			}
			b.servers = append(b.servers, s)
			if err := s.connect(1, s.request); err != nil {
				return err
			}
		}
	}
	b.size.rounds *= 3 // they differ by more than what is looked for
	return b.rounds(ownCPU, b.rate, func(*server, count) {})
}

// messagesTable prints the CPU of a message, and beside each program how many times what gojq takes for the same it is.
func (b *bench) messagesTable(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\nCPU per message, one client, %d msg/s\n\n", machine(), b.rate)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	cost := b.figures[ownCPU]
	for i, p := range programs {
		if cost[p.name] == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t", p.title, micro(cost[p.name]))
		if old := cost[p.name+earlier]; old > 0 {
			fmt.Fprintf(t, "%.2f× the earlier %s\t", cost[p.name]/old, micro(old))
		}
		if other := cost[programs[min(i+1, len(programs)-1)].name]; i%2 == 1 && other > 0 {
			fmt.Fprintf(t, "%.2f× the same by gojq, %.2f× of what the program adds", cost[p.name]/other, (cost[p.name]-cost["raw"])/(other-cost["raw"]))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	for _, note := range b.notes {
		fmt.Fprintln(w, note)
	}
}
