package admin

import (
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sidestream/config"
	"sidestream/proxy"
	"sidestream/proxy/history"
	"sidestream/proxy/peer"
)

var update = flag.Bool("update", false, "write the table of metrics into README.md")

// alone is the directory of a replica without others.
type alone struct{}

func (alone) Replica() string { return "aaaaaaaaaa" }

func (alone) Address(context.Context, string) (string, error) { return "", nil }

// everything is the port's own metrics of a sidecar that has all there is.
func everything(t *testing.T) (names []string, table string) {
	t.Helper()
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	t.Cleanup(legacy.Close)
	c, err := config.Load([]string{"SSE_UPSTREAM=" + legacy.URL, "SSE_TUNNEL=/", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://127.0.0.1:9/",
		"SSE_ROUTE_A_SEND=true", "SSE_ROUTE_A_PARITY=true", "SSE_ROUTE_A_REPLACES=/old", "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=http://127.0.0.1:9/", "SSE_ROUTE_B_AUTH=jwt", "SSE_ROUTE_B_JWT_KEYS=secret:x"}, config.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	if c.Settings.History, err = (history.Settings{Dir: t.TempDir()}).Start(slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	c.Peer, c.Directory = &peer.Settings{URL: "http://127.0.0.1:9", Secrets: []string{"0123456789abcdef"}}, alone{}
	p := proxy.New(c.Settings, slog.New(slog.DiscardHandler))
	t.Cleanup(p.Close)
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	if old, err := http.Get(front.URL + "/old"); err != nil || old.Body.Close() != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{p, "dev", &Lines{}})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| metric | type | meaning |\n|---|---|---|\n")
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "sidestream_")
		names = append(names, name)
		var labels []string
		values := map[string][]string{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(labels, l.GetName()) {
					labels = append(labels, l.GetName())
				}
				if !slices.Contains(values[l.GetName()], l.GetValue()) {
					values[l.GetName()] = append(values[l.GetName()], l.GetValue())
				}
			}
		}
		meaning := f.GetHelp()
		slices.SortFunc(labels, func(a, b string) int { return strings.Compare(rank(a)+a, rank(b)+b) })
		for _, label := range labels {
			if label != "route" && label != "version" && !strings.HasPrefix(name, "migration_") {
				meaning += fmt.Sprintf(" `%s`: `%s`.", label, strings.Join(values[label], "`, `"))
			}
		}
		if len(labels) > 0 {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, strings.ToLower(f.GetType().String()), meaning)
	}
	return names, b.String()
}

// rank puts the route first.
func rank(label string) string {
	if label == "route" {
		return "0"
	}
	return "1"
}

// TestReadmeTable holds the table of metrics against the code; -update writes it.
func TestReadmeTable(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- metrics -->\n", "<!-- /metrics -->"
	before, rest, ok := strings.Cut(string(data), begin)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("README.md has no place for the metrics")
	}
	_, table := everything(t)
	switch {
	case *update:
		err = os.WriteFile("README.md", []byte(before+begin+table+end+after), 0o644)
	case got != table:
		t.Error("the table of metrics differs from the code; go test ./proxy/admin -run Readme -update writes it")
	}
	if err != nil {
		t.Error(err)
	}
}

// named finds what a text calls by the name of a metric: one with labels, or with a suffix that only metrics have.
var named = regexp.MustCompile(`\b(sidestream_[a-z_]+[a-z]|[a-z]+(?:_[a-z]+)*_total|[a-z]+(?:_[a-z]+)*(?:\{(?:route|reason|direction|transport)[a-z,"=|~.]*\}))`)

// labels are in braces after a metric's name.
var labels = regexp.MustCompile(`\{.*`)

// unknownMetrics returns what text names as metrics that are none of names.
func unknownMetrics(text string, names []string) (unknown []string) {
	for _, m := range named.FindAllStringSubmatch(text, -1) {
		name := strings.TrimPrefix(labels.ReplaceAllString(m[1], ""), "sidestream_")
		if !slices.Contains(names, name) && !strings.HasPrefix(name, "process_") {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// TestReadmeNamesMetricsThatExist holds what the documentation tells operators to watch against what there is.
func TestReadmeNamesMetricsThatExist(t *testing.T) {
	names, _ := everything(t)
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		deployed := filepath.Base(filepath.Dir(path)) == "deploy" && !strings.Contains(path, "README")
		if d.IsDir() || filepath.Ext(path) != ".md" && !deployed {
			return nil
		}
		text, err := os.ReadFile(path)
		found += len(named.FindAll(text, -1))
		for _, name := range unknownMetrics(string(text), names) {
			t.Errorf("%s names the metric %s, which there is not", path, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 50 {
		t.Errorf("only %d names of metrics were found", found)
	}
}

// The test above would not notice if it saw nothing.
func TestUnknownMetricsAreSeen(t *testing.T) {
	names, _ := everything(t)
	for text, want := range map[string]int{
		"`gaps_total{route,reason}` and `sidestream_clients{route=\"x\"}`": 0,
		"`gap_total{route}`":                     1,
		"`upstream_app{route}`":                  1,
		"sidestream_strems":                      1,
		`sidestream_rejected_total{reason=~"x"}`: 0,
		"`job_total`":                            1,
	} {
		if got := unknownMetrics(text, names); len(got) != want {
			t.Errorf("%s: %q, want %d", text, got, want)
		}
	}
}
