package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the environment tables into the README")

const readme = "../README.md"

// TestReadmeTables holds the README's tables against the code; -update writes them.
func TestReadmeTables(t *testing.T) {
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for name, table := range map[string]string{"globals": globalTable(), "settings": settingTable()} {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
		before, rest, ok := strings.Cut(text, begin)
		got, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("the README has no place %s", begin)
		}
		if got != table && !*update {
			t.Errorf("the table %q of the README differs from the code; go test ./config -run Readme -update writes it", name)
		}
		text = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func globalTable() string {
	table := "| variable | default | meaning |\n|---|---|---|\n"
	for _, v := range Variables() {
		if !v.Route {
			table += row(v.Name, "", v)
		}
	}
	return table
}

func settingTable() string {
	table := "| setting | default | meaning |\n|---|---|---|\n"
	for _, v := range Variables() {
		if v.Route {
			star := ""
			if v.Global {
				star = " *"
			}
			table += row(v.Name, star, v)
		}
	}
	return table
}

func row(name, star string, v Variable) string {
	value := v.Default
	if !strings.Contains(value, " ") && value != "none" && value != "required" {
		value = "`" + value + "`"
	}
	return "| `" + name + "`" + star + " | " + value + " | " + strings.ReplaceAll(v.Meaning, "|", `\|`) + " |\n"
}

// TestReadmeEnvFile loads the README's own example.
func TestReadmeEnvFile(t *testing.T) {
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "<!-- env-file -->\n")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the README has no env-file example")
	}
	environ, err := Overlay(nil, []byte(strings.ReplaceAll("\n"+example, "\n   ", "\n"))) // it stands in a list
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(environ, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Routes) != 2 || c.Routes[0].Upstream.Shared() || !c.Routes[1].Upstream.Shared() {
		t.Errorf("orders must be private and prices shared, got %+v", c.Routes)
	}
}
