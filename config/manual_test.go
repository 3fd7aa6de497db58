package config

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
)

// The help, the manual and what shells complete by name every command and, the manual, every variable.
func TestManual(t *testing.T) {
	texts := map[string]string{"help": Usage()}
	for _, kind := range []string{"man", "bash", "zsh", "fish"} {
		var b bytes.Buffer
		if err := Manual([]string{kind}, "1.2.3", &b); err != nil {
			t.Fatal(err)
		}
		texts[kind] = b.String()
	}
	for kind, text := range texts {
		for _, c := range Commands {
			if !strings.Contains(text, c.Name) {
				t.Errorf("%s lacks %s", kind, c.Name)
			}
			for _, f := range c.Flags {
				if plain := strings.ReplaceAll(text, `\-`, "-"); !strings.Contains(plain, f.Name) && !strings.Contains(plain, "-o "+f.Name[1:]) {
					t.Errorf("%s lacks %s of %s", kind, f.Name, c.Name)
				}
				if !strings.Contains(c.Words, f.Name) {
					t.Errorf("%s does not show %s", c.Name, f.Name)
				}
			}
		}
	}
	for _, v := range Variables() {
		if !strings.Contains(texts["man"], v.Name) {
			t.Errorf("the manual lacks %s", v.Name)
		}
	}
	for _, line := range strings.Split(texts["man"], "\n") {
		if strings.HasPrefix(line, ".") && !regexp.MustCompile(`^\.(TH|SH|TP|B|BI|RI)( |$)`).MatchString(line) || strings.HasPrefix(line, "'") {
			t.Errorf("%q would be taken for a macro", line)
		}
	}
	for _, words := range [][]string{{"csh"}, {"man", "bash"}} {
		if err := Manual(words, "", new(bytes.Buffer)); !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v", words, err)
		}
	}
	for _, line := range strings.Split(Usage(), "\n") {
		if len(line) > 150 {
			t.Errorf("a line of help has %d bytes: %s", len(line), line)
		}
	}
}
