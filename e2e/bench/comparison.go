//go:build linux

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// comparison is a table of servers, with one of them the measure of the others.
type comparison struct {
	head    string // with tabs between the columns
	servers []string
	base    string
	ratio   func(v, base float64) float64
	rows    []row
	bracket string // what the ratios in brackets are
}

// over is how many times base v is.
func over(v, base float64) float64 { return v / base }

func (c comparison) print(b *bench, w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", machine())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, c.head)
	for _, r := range c.rows {
		fmt.Fprint(t, r.title(b.size))
		for _, name := range c.servers {
			cell := ""
			if v, ok := b.figures[r.figure][name]; ok {
				cell = r.show(v)
				if base := b.figures[r.figure][c.base]; name != c.base && base > 0 && v > 0 {
					cell += fmt.Sprintf(" (%.2f×)", c.ratio(v, base))
				}
			}
			fmt.Fprint(t, "\t", cell)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	fmt.Fprintln(w, "\nIn brackets: "+c.bracket)
	for _, note := range b.notes {
		fmt.Fprintln(w, note)
	}
}
