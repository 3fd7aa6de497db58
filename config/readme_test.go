package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of variables into README.md")

const readme = "README.md"

// TestReadmeTables holds the tables of variables against the code; -update writes them.
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
			t.Fatalf("config/README.md has no place %s", begin)
		}
		if got != table && !*update {
			t.Errorf("the table %q of config/README.md differs from the code; go test ./config -run Readme -update writes it", name)
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
	table := "| variable | default | [reload](#reload) | meaning |\n|---|---|---|---|\n"
	for _, v := range Variables() {
		if !v.Route {
			table += row(v.Name, "", v, v.Reload)
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

func row(name, star string, v Variable, more ...string) string {
	value := v.Default
	if !strings.Contains(value, " ") && value != "none" && value != "required" {
		value = "`" + value + "`"
	}
	value = strings.Join(append([]string{value}, more...), " | ")
	return "| `" + name + "`" + star + " | " + value + " | " + strings.ReplaceAll(v.Meaning, "|", `\|`) + " |\n"
}

// TestReadmeEnvFile: the README's example shares connections as the README states, and check prints what config/README.md shows.
func TestReadmeEnvFile(t *testing.T) {
	_, text, ok := strings.Cut(documents(t)["README.md"], "<!-- env-file -->\n")
	examples := envFiles(text)
	if !ok || len(examples) == 0 {
		t.Fatal("the README has no env-file example")
	}
	c, err := loadExample(examples[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Routes) != 2 || c.Routes[0].Upstream.Shared() || !c.Routes[1].Upstream.Shared() {
		t.Errorf("orders must be private and prices shared, got %+v", c.Routes)
	}
	var printed strings.Builder
	if err := c.Check(&printed); err != nil || !strings.Contains(documents(t)["config/README.md"], "sidestream.env check\n"+printed.String()+"```") {
		t.Errorf("config/README.md does not have what check prints:\n%s%v", &printed, err)
	}
}
