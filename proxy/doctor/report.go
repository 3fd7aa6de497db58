package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Levels of findings.
const (
	OK   = "ok"   // as it should be
	Note = "note" // worth knowing; it needs nothing unless its text says so
	Fix  = "fix"  // something should be mended
)

// Report is what an examination has found.
type Report struct {
	URL      string    `json:"url"`
	Time     time.Time `json:"time"`
	Probe    string    `json:"probe"`    // its address; "" none was found
	Products []string  `json:"products"` // recognised on the way
	Findings []Finding `json:"findings"`
}

// Finding is what one check has come to.
type Finding struct {
	Check string `json:"check"`
	Level string `json:"level"`
	Seen  string `json:"seen"`
	Means string `json:"means,omitempty"`
	Fix   []Cure `json:"fix,omitempty"`

	ill ill // what the cures are for
}

// Cure is what to write in the configuration of a product; the product "any" stands for what was not recognised.
type Cure struct {
	Product string   `json:"product"`
	Lines   []string `json:"lines"`
}

// Count is the number of findings of a level.
func (r *Report) Count(level string) (n int) {
	for _, f := range r.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// prescribe gives each finding that has an ill the cures for what was recognised.
func (r *Report) prescribe() {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Level != OK {
			f.Fix = append(f.Fix, cures(f.ill, r.Products)...)
		}
	}
	if r.Products == nil {
		r.Products = []string{}
	}
}

func (r *Report) print(w io.Writer, machine bool) error {
	if machine {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		out.SetEscapeHTML(false)
		return out.Encode(r)
	}
	var b strings.Builder
	fmt.Fprintln(&b, r.URL)
	if r.Probe != "" {
		fmt.Fprintln(&b, "probe   ", r.Probe)
	}
	if between := strings.Join(r.Products, ", "); between != "" {
		fmt.Fprintln(&b, "between ", between)
	} else {
		fmt.Fprintln(&b, "between  nothing that was recognised")
	}
	fmt.Fprintln(&b)
	for _, f := range r.Findings {
		f.print(&b)
	}
	fmt.Fprintf(&b, "\n%d to mend, %d to know, %d as they should be\n", r.Count(Fix), r.Count(Note), r.Count(OK))
	_, err := io.WriteString(w, b.String())
	return err
}

const indent = "                   "

func (f *Finding) print(b *strings.Builder) {
	level := f.Level
	if level == Fix {
		level = "FIX"
	}
	fmt.Fprintf(b, "%-4s  %-11s  %s\n", level, f.Check, f.Seen)
	if f.Means != "" {
		fmt.Fprintf(b, "%s%s\n", indent, f.Means)
	}
	for _, c := range f.Fix {
		name := c.Product
		if name == Any {
			name = "what to do"
		}
		fmt.Fprintf(b, "%s%s:\n", indent, name)
		for _, line := range c.Lines {
			fmt.Fprintf(b, "%s    %s\n", indent, line)
		}
	}
}
