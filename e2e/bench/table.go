//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// row is a line of the table.
type row struct {
	figure string
	title  func(size) string
	show   func(float64) string
}

func named(s string) func(size) string { return func(size) string { return s } }

var rows = []row{
	{idleRSS, func(s size) string { return fmt.Sprintf("RSS per idle client, %d clients", s.many) }, kib},
	{fannedRSS, named("the same after fan-out"), kib},
	{backRSS, func(s size) string { return fmt.Sprintf("the same after %d reconnects", s.many) }, kib},
	{acceptCPU, named("CPU to accept one"), micro},
	{fewCPU, func(s size) string {
		return fmt.Sprintf("CPU per delivered event, %d clients, %d msg/s", s.few, s.fewRate)
	}, micro},
	{manyCPU, func(s size) string { return fmt.Sprintf("the same, %d clients, %d msg/s", s.many, s.manyRate) }, micro},
	{mostEvents, func(s size) string { return fmt.Sprintf("most events/s, %d clients", s.few) }, number},
	{mostCPU, named("CPU per event at that"), micro},
	{mostClient, named("load client's core at that"), percent},
	{p50, func(s size) string { return fmt.Sprintf("latency p50, %d clients, %d msg/s", s.few, s.fewRate) }, milli},
	{p99, named("latency p99, the same"), milli},
	{wire, named("bytes on the wire per event"), number},
	{reads, named("reads per event (less than 1: coalesced)"), hundredth},
	{connectCPU, named("CPU of a connect"), micro},
	{behindCPU, named("the same, with 100 events to replay"), micro},
	{h2RSS, func(s size) string { return fmt.Sprintf("RSS per HTTP/2 client, %d × %d", s.h2Conns, s.h2Streams) }, kib},
	{tabRSS, func(s size) string {
		return fmt.Sprintf("RSS per HTTP/2 connection with one client, %d", s.h2Conns*s.h2Streams/2)
	}, kib},
	{h2CPU, func(s size) string { return fmt.Sprintf("CPU per event to an HTTP/2 client, %d msg/s", s.h2Rate) }, micro},
	{tabCPU, func(s size) string { return fmt.Sprintf("CPU per event to one of those, %d msg/s", s.h2Rate) }, micro},
}

// titles are the columns' heads.
var titles = map[string]string{"ours": "Sidestream", "floor": "floor", "coalesced": "floor, coalescing", "plain": "net/http, channel", "nchan": "nchan"}

func kib(v float64) string   { return fmt.Sprintf("%.1f KiB", v/1024) }
func micro(v float64) string { return fmt.Sprintf("%.1f µs", v/1e3) }
func milli(v float64) string { return fmt.Sprintf("%.1f ms", v/1e6) }

func hundredth(v float64) string { return fmt.Sprintf("%.2f", v) }

func percent(v float64) string { return fmt.Sprintf("%.0f %%", v*100) }

// number separates thousands.
func number(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// table prints the figures, and beside each of the others how many times it ours is.
func (b *bench) table(w io.Writer, markdown bool) {
	lines := b.cells()
	if markdown {
		fmt.Fprintf(w, "%s:\n\n", machine())
		for i, line := range lines {
			fmt.Fprintf(w, "| %s |\n", strings.Join(line, " | "))
			if i == 0 {
				fmt.Fprintln(w, strings.Repeat("|---", len(line))+"|")
			}
		}
		fmt.Fprintln(w)
	} else {
		fmt.Fprintf(w, "\n%s\n\n", machine())
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, line := range lines {
			fmt.Fprintln(t, strings.Join(line, "\t"))
		}
		t.Flush()
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "In brackets: Sidestream's figure divided by this one. CPU is user and system time of the server's process.")
	for _, note := range b.notes {
		fmt.Fprintln(w, note)
	}
}

// cells is the table, its head first.
func (b *bench) cells() [][]string {
	head := []string{""}
	measured := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return !slices.ContainsFunc(b.servers, func(s *server) bool { return s.name == name })
	})
	for _, name := range measured {
		head = append(head, titles[name])
	}
	lines := [][]string{head}
	for _, r := range rows {
		line := []string{r.title(b.size)}
		for _, name := range measured {
			line = append(line, b.cell(r, name))
		}
		lines = append(lines, line)
	}
	return lines
}

func (b *bench) cell(r row, server string) string {
	v, ok := b.figures[r.figure][server]
	if !ok {
		return ""
	}
	cell := r.show(v)
	if ours, ok := b.figures[r.figure]["ours"]; ok && server != "ours" && r.figure != mostClient && v > 0 {
		cell += fmt.Sprintf(" (%.2f×)", ours/v)
	}
	return cell
}
