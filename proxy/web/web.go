package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Path is below what everything is served.
const Path = "/_sidestream/"

//go:embed *.d.ts websocket.js events.js hub.js polls.js upward.js doctor.js doctor.html doctor.css min
var content embed.FS

const (
	page       = "text/html; charset=utf-8"
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// Scripts are the files, ready to be served. It is made by New, and safe for concurrent use.
type Scripts struct {
	files map[string]*file // by path
}

// file is one answer, plain and compressed.
type file struct {
	kind          string // its Content-Type
	plain, zipped []byte
	tag           string // without quotes
}

// New returns the scripts. prefixes are those of SSE_TUNNEL; with none, websocket.js replaces nothing.
func New(prefixes []string) *Scripts {
	if prefixes == nil {
		prefixes = []string{}
	}
	list, err := json.Marshal(prefixes) // what it escapes beyond JSON keeps the text a JavaScript literal anywhere
	if err != nil {
		panic(err) // strings can be marshalled
	}
	s := &Scripts{files: map[string]*file{}}
	s.add("polls.src.js", read("polls.js"))
	s.add("upward.src.js", read("upward.js"))
	s.add("hub.src.js", read("hub.js"))
	s.add("doctor.src.js", read("doctor.js"))
	s.add("doctor.js", read("min/doctor.js"))
	s.add("doctor.css", read("doctor.css")).kind = "text/css; charset=utf-8"
	s.add("doctor", read("doctor.html")).kind = page
	s.add("polls.mjs", read("min/polls.mjs")) // which websocket.js loads...
	s.add("upward.mjs", read("min/upward.mjs"))
	s.add("hub.mjs", read("min/hub.mjs")) // ...and this events.js
	for _, name := range names {
		s.add(name+".src.js", read(name+".js"))
		s.add(name+".d.ts", read(name+".d.ts")).kind = "text/plain; charset=utf-8" // there is no registered type, and .ts is a film elsewhere
		for _, end := range []string{".js", ".mjs"} {
			s.add(name+end, bytes.Replace(read("min/"+name+end), []byte("SIDESTREAM_PREFIXES"), list, 1))
		}
	}
	return s
}

// names are those of the scripts.
var names = []string{"websocket", "events"}

func read(name string) []byte {
	text, err := content.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return text
}

func (s *Scripts) add(name string, plain []byte) *file {
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is one
	z.Write(plain)                                             // memory takes all
	z.Close()
	sum := sha256.Sum256(plain)
	f := &file{kind: "text/javascript; charset=utf-8", plain: plain, zipped: zipped.Bytes(), tag: hex.EncodeToString(sum[:8])}
	s.files[Path+name] = f
	return f
}

// Has reports whether path is one of the scripts'.
func (s *Scripts) Has(path string) bool { return s.files[path] != nil }

// ServeHTTP answers GET and HEAD of a path that Has knows. What other origins may is said before.
func (s *Scripts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, h := s.files[r.URL.Path], w.Header()
	switch {
	case f == nil:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "scripts are read-only", http.StatusMethodNotAllowed)
		return
	}
	body, tag := f.plain, `"`+f.tag+`"`
	h.Add("Vary", "Accept-Encoding")
	if TakesGzip(r.Header) {
		body, tag = f.zipped, `"`+f.tag+`-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Cache-Control", "no-cache") // asked for again each time: the prefixes may have changed
	h.Set("ETag", tag)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // a script tag of any page may have it
	if f.kind == page {
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
	}
	if f.has(r.Header.Values("If-None-Match")) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		w.Write(body)
	}
}

// has reports whether one of the tags of If-None-Match is f's. Proxies weaken tags, and compress.
func (f *file) has(lines []string) bool {
	for tag := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		if tag == "*" || strings.TrimSuffix(tag, "-gzip") == f.tag {
			return true
		}
	}
	return false
}

// TakesGzip reports whether a request with this header accepts gzip (RFC 9110, section 12.5.3).
func TakesGzip(h http.Header) bool {
	all := strings.Split(strings.Join(h.Values("Accept-Encoding"), ","), ",")
	return slices.ContainsFunc(all, func(one string) bool {
		name, params, _ := strings.Cut(one, ";")
		_, weight, weighs := strings.Cut(params, "=")
		return strings.EqualFold(strings.TrimSpace(name), "gzip") && (!weighs || strings.Trim(strings.TrimSpace(weight), "0.") != "")
	})
}
