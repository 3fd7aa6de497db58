package admin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"strings"
)

//go:embed page
var content embed.FS

// pagePolicy lets the dashboard have its own script and style, ask the port itself, and nothing else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// assets are the files of the dashboard, by their patterns.
var assets = map[string]struct{ file, media string }{
	"/{$}":           {"page/index.html", "text/html; charset=utf-8"},
	"/dashboard.js":  {"page/dashboard.js", "text/javascript; charset=utf-8"},
	"/migration.js":  {"page/migration.js", "text/javascript; charset=utf-8"},
	"/parts.js":      {"page/parts.js", "text/javascript; charset=utf-8"},
	"/dashboard.css": {"page/dashboard.css", "text/css; charset=utf-8"},
	"/icon.svg":      {"page/icon.svg", "image/svg+xml"},
}

// servePage serves them.
func servePage(w http.ResponseWriter, r *http.Request) {
	asset := assets[strings.TrimPrefix(r.Pattern, "GET ")]
	text, err := content.ReadFile(asset.file)
	if err != nil {
		panic(err) // it is embedded
	}
	h := w.Header()
	sum := sha256.Sum256(text)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	h.Set("Content-Type", asset.media)
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(text)
}
