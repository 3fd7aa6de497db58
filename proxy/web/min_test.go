package web

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

var update = flag.Bool("update", false, "make the minified files anew")

// part returns the lines of source that are for kind.
func part(source []byte, kind string) string {
	var out strings.Builder
	wanted := true
	for line := range bytes.Lines(source) {
		if word, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("//! ")); ok {
			wanted = string(word) == kind || string(word) == "both"
		} else if wanted {
			out.Write(line)
		}
	}
	return out.String()
}

// mangled are the names in the classes of websocket.js that neither a browser nor the wire knows: they are served shorter.
const mangled = `^(acknowledge|add|again|id|last|busy|count|drop|enqueue|expect|fire|flush|handlers|hear|held|ports|limit|lost|moved|native|pass|posting|queue|quiet|retry|` +
	`source|stop|timer|leave|connect|cut|parts|post|over|target|fail|take|end|number|protocols|opened|sent|shown|socket|tried|tryNative|tunnels|turn|waiting|watch|weight)$`

// mangledEvents are those of events.js and hub.js. Not what the two know of each other, nor what tabs tell each other by: after a deployment they may have
// different versions of it.
const mangledEvents = `^(alive|beat|beaten|busy|calm|alone|cut|doubt|ended|follow|fresh|give|hear|hint|hold|lead|leads|led|links|list|lumped|lumps|members|miss|missing|order|` +
	`owner|part|pass|patience|pause|pieces|poll|pump|reading|refuse|renew|run|seats|soon|sources|source|stale|strange|stranger|suspect|take|tell|timer|watch)$`

// minify makes what is served of a source.
func minify(t *testing.T, name, kind string, format api.Format) []byte {
	t.Helper()
	props := ""
	switch name {
	case "websocket":
		props = mangled
	case "events", "hub":
		props = mangledEvents
	}
	made := api.Transform(part(read(name+".js"), kind), api.TransformOptions{MinifyWhitespace: true, MinifyIdentifiers: true,
		MinifySyntax: true, MangleProps: props, Format: format, Target: api.ES2022, LegalComments: api.LegalCommentsNone, Sourcefile: name + ".js"})
	for _, problem := range append(made.Errors, made.Warnings...) {
		t.Errorf("%s: %s %+v", name, problem.Text, problem.Location)
	}
	return append([]byte("// "+name+".src.js\n"), made.Code...)
}

// The minified files are made from the sources.
func TestMinified(t *testing.T) {
	for _, name := range append([]string{"polls", "hub", "doctor"}, names...) {
		kinds := map[string]string{".js": "classic", ".mjs": "module"}
		switch name {
		case "polls", "hub":
			delete(kinds, ".js")
		case "doctor":
			delete(kinds, ".mjs")
		}
		for end, kind := range kinds {
			format := map[string]api.Format{"classic": api.FormatDefault, "module": api.FormatESModule}[kind]
			want, path := minify(t, name, kind, format), "min/"+name+end
			if *update {
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if have, _ := os.ReadFile(path); !bytes.Equal(have, want) {
				t.Errorf("%s is not made from %s.js; run: go test ./proxy/web -update", path, name)
			}
		}
	}
}
