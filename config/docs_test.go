package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the project's documentation, by its path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		switch base := filepath.Base(name); {
		case err != nil:
			return err
		case d.IsDir() && (base == "node_modules" || strings.HasPrefix(base, ".") && base != ".github" && base != ".."):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".md":
			return nil
		}
		text, err := os.ReadFile(name)
		texts[strings.TrimPrefix(filepath.ToSlash(name), "../")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "config/README.md", "translate/README.md", "translate/dialect/README.md", "proxy/README.md",
		"proxy/web/README.md", "proxy/tunnel/README.md", "proxy/admin/README.md", "proxy/admin/troubleshooting.md", "e2e/deploy/README.md", ".github/CONTRIBUTING.md", "CHANGELOG.md"} {
		if texts[name] == "" {
			t.Fatalf("%s is missing", name)
		}
	}
	return texts
}

// envFiles returns the examples of text that are env files, or parts of them: blocks of shell with a line that sets a variable.
func envFiles(text string) (found []string) {
	for i, block := range strings.Split(text, "```sh\n") {
		example, _, _ := strings.Cut(block, "```")
		if indent := regexp.MustCompile(`(?m)^ *SSE_`).FindString(example); i > 0 && indent != "" { // of a list
			found = append(found, regexp.MustCompile(`(?m)^`+strings.TrimSuffix(indent, "SSE_")).ReplaceAllString(example, ""))
		}
	}
	return found
}

var routesPart = regexp.MustCompile(`(?m)^SSE_ROUTE_([A-Z0-9]+)_`)

// whole adds PATH and FROM to the routes of an example that shows other settings, and a service to one that shows no route.
func whole(environ []string, example string) []string {
	for _, m := range routesPart.FindAllStringSubmatch(example, -1) {
		for setting, value := range map[string]string{"PATH": "/" + m[1], "FROM": "ws://legacy.example/"} {
			name := routePrefix + m[1] + "_" + setting
			if !slices.ContainsFunc(environ, func(entry string) bool { return strings.HasPrefix(entry, name+"=") }) {
				environ = append(environ, name+"="+value)
			}
		}
	}
	if !strings.Contains(example, "SSE_ROUTE_") && !strings.Contains(example, "SSE_UPSTREAM=") {
		environ = append(environ, "SSE_UPSTREAM=http://legacy.example")
	}
	return environ
}

// loadExample loads an env file of the documentation.
func loadExample(example string) (*Config, error) {
	environ, err := Overlay(nil, []byte(example))
	if err != nil {
		return nil, err
	}
	return Load(whole(environ, example), func(name string) ([]byte, error) {
		if name == "/run/secrets/stomp" {
			return []byte("login:guest\npasscode:guest\n"), nil
		}
		return os.ReadFile(name)
	})
}

// TestExamplesLoad loads every env file of the documentation, as it stands.
func TestExamplesLoad(t *testing.T) {
	routes := map[string]int{}
	for name, text := range documents(t) {
		for _, example := range envFiles(text) {
			c, err := loadExample(example)
			if err != nil {
				t.Errorf("%s: %v in\n%s", name, err, example)
				continue
			}
			routes[name] += len(c.Routes)
		}
	}
	for name, least := range map[string]int{"README.md": 2, "translate/README.md": 8, "translate/dialect/README.md": 10, "proxy/README.md": 1,
		"proxy/web/README.md": 1, "e2e/deploy/README.md": 1} {
		if routes[name] < least {
			t.Errorf("%s: only %d routes were found", name, routes[name])
		}
	}
}

// What holds the documentation would not notice if it saw nothing.
func TestFaultsOfExamplesAreSeen(t *testing.T) {
	for text, good := range map[string]bool{
		"```sh\nSSE_ROUTE_A_SELECT=.a\n```":                                     true,
		"1. a\n\n   ```sh\n   SSE_DRAIN=1s\n   SSE_UPSTREAM=http://h\n   ```\n": true,
		"```sh\nSSE_ROUTE_A_SELECT=.a[\n```":                                    false,
		"```sh\nSSE_ROUTE_A_SELEKT=.a\n```":                                     false,
		"```sh\nSSE_ROUTE_A_PATH=/a   # a comment\n```":                         false,
	} {
		examples := envFiles(text)
		if len(examples) != 1 {
			t.Errorf("%q: %d examples", text, len(examples))
			continue
		}
		if _, err := loadExample(examples[0]); err == nil != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"`REFUSE_AFTER` and `SELECT=.a`, `GET`": "",
		"`REFUSE_AFTR`":                         "REFUSE_AFTR",
		"`MODUS=patch`":                         "MODUS",
		"SSE_ROUTE_A_FROM_FILE, SSE_LISTEN":     "",
		"SSE_LINSTEN":                           "SSE_LINSTEN",
		"SSE_ROUTE_A_FORM=x":                    "SSE_ROUTE_A_FORM",
	} {
		if got := strings.Join(unknownNames(text), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

var (
	fullNames = regexp.MustCompile(`\bSSE_[A-Z0-9_]*[A-Z0-9]`)
	spans     = regexp.MustCompile("`([A-Z][A-Z_]+)(?:=[^`]*)?`")
)

// otherWords are in capitals and no settings.
var otherWords = []string{"GET", "POST", "DELETE", "OPTIONS", "PERSISTED_QUERY_NOT_IN_LIST", "PERSISTED_QUERY_NOT_FOUND", "NAME", "SIGTERM", "SIGHUP", "GOMEMLIMIT", "GOGC", "FORBIDDEN", "UNAUTHENTICATED", "EIO", "SSE_ENV_FILE", "SSE_ROUTE", "TCP_USER_TIMEOUT", "GOTOOLCHAIN", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "BUN_CONFIG_MAX_HTTP_REQUESTS"}

// unknownNames returns what text calls by a variable's or setting's name that is none.
func unknownNames(text string) (unknown []string) {
	for _, name := range fullNames.FindAllString(text, -1) {
		_, known := parseName(strings.TrimSuffix(name, fileSuffix))
		if !known && !slices.Contains(otherWords, name) {
			unknown = append(unknown, name)
		}
	}
	for _, m := range spans.FindAllStringSubmatch(text, -1) {
		name := m[1]
		if !isRouteSetting(name) && !isGlobal(strings.TrimPrefix(name, prefix)) && !slices.Contains(otherWords, name) && !strings.HasPrefix(name, prefix) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// TestNamedSettingsExist: whatever the documentation calls by the name of a setting is one.
func TestNamedSettingsExist(t *testing.T) {
	for name, text := range documents(t) {
		for _, word := range unknownNames(text) {
			t.Errorf("%s names %s, which is no setting", name, word)
		}
	}
}
