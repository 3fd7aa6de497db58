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
const mangled = `^(acknowledge|add|again|id|last|busy|count|drop|enqueue|expect|fire|handlers|hear|held|ports|limit|lost|moved|native|pass|posting|quiet|retry|` +
	`stop|timer|leave|connect|cut|over|target|fail|take|end|protocols|opened|shown|socket|tried|tryNative|tunnels|turn|up|upward|waiting|watch|weight)$|` + mangledShared

// mangledShared are those that upward.js knows it by.
const mangledShared = `^(flush|number|parts|post|queue|sent|source)$`

// shared is what they are called in both. That stays as it is: after a deployment the two may be of different versions.
func shared() map[string]any {
	return map[string]any{"flush": "a", "number": "g", "parts": "b", "post": "c", "queue": "d", "sent": "e", "source": "f"}
}

// mangledEvents are those of events.js and hub.js. Not what the two know of each other, nor what tabs tell each other by: after a deployment they may have
// different versions of it.
const mangledEvents = `^(alive|beat|beaten|busy|calm|alone|cut|doubt|ended|follow|fresh|give|hear|hint|hold|lead|leads|led|links|list|lumped|lumps|members|miss|missing|order|` +
	`owner|part|pass|patience|pause|pieces|poll|pump|reading|refuse|renew|run|seats|soon|sources|source|stale|strange|stranger|suspect|take|tell|timer|watch)$`

// minify makes what is served of a source.
func minify(t *testing.T, name, kind string, format api.Format) []byte {
	t.Helper()
	props, kept := "", map[string]any(nil)
	switch name {
	case "websocket":
		props, kept = mangled, shared()
	case "upward":
		props, kept = mangledShared, shared()
	case "events", "hub":
		props = mangledEvents
	}
	made := api.Transform(part(read(name+".js"), kind), api.TransformOptions{MinifyWhitespace: true, MinifyIdentifiers: true,
		MinifySyntax: true, MangleProps: props, MangleCache: kept, Format: format, Target: api.ES2022, LegalComments: api.LegalCommentsNone, Sourcefile: name + ".js"})
	for _, problem := range append(made.Errors, made.Warnings...) {
		t.Errorf("%s: %s %+v", name, problem.Text, problem.Location)
	}
	return append([]byte("// "+name+".src.js\n"), made.Code...)
}

// The minified files are made from the sources.
func TestMinified(t *testing.T) {
	for _, name := range append([]string{"polls", "upward", "hub", "doctor"}, names...) {
		kinds := map[string]string{".js": "classic", ".mjs": "module"}
		switch name {
		case "polls", "upward", "hub":
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
