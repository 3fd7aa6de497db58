#!/usr/bin/env bash
# Guess: a middleware that compresses answers from some length on decides at the first Flush at the latest: what was written is sent, compressed or not, and a Flush that returns no error has
#   sent it. So do gorilla/handlers, gin-contrib/gzip, echo with a MinLength, and klauspost's gzhttp.
# Instead: NYTimes/gziphandler and CAFxX/httpcompression take a Flush before their minimum without an error and send nothing, not even the head: the first events of a stream wait until 1,400 or
#   200 bytes are together, or until it ends. From then on each Flush sends.
# Version: NYTimes/gziphandler v1.1.1, CAFxX/httpcompression v0.0.8, klauspost/compress/gzhttp v1.20.4, gorilla/handlers v1.5.2, gin-contrib/gzip v1.2.5, labstack/echo v4.16.5.
# Why it matters: a quiet stream of a legacy service behind one of them is not slow but absent: an EventSource has not opened, a sidecar that passes it on untouched has no answer to pass on.
#   A route asks such a service for no compression, and gets each event at once.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >main.go <<'GO'
package main

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/CAFxX/httpcompression"
	"github.com/NYTimes/gziphandler"
	zip "github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/handlers"
	"github.com/klauspost/compress/gzhttp"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

const events, length, beat = 25, 65, 100 * time.Millisecond

// feed has 25 events of 65 bytes, a tenth of a second between them.
func feed(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for n := range events {
		fmt.Fprintf(w, "data: %-*d\n\n", length-len("data: \n\n"), n)
		if err := http.NewResponseController(w).Flush(); err != nil {
			fmt.Println("Flush:", err)
		}
		time.Sleep(beat)
	}
}

func main() {
	service := http.HandlerFunc(feed)
	wrap, _ := gzhttp.NewWrapper()
	adapter, _ := httpcompression.DefaultAdapter()
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	g.Use(zip.Gzip(5))
	g.GET("/", gin.WrapH(service))
	e := echo.New()
	e.Use(middleware.GzipWithConfig(middleware.GzipConfig{MinLength: 1400}))
	e.GET("/", echo.WrapHandler(service))
	for _, m := range []struct {
		name string
		http.Handler
	}{{"gorilla/handlers", handlers.CompressHandler(service)}, {"gin-contrib/gzip", g}, {"echo, MinLength 1400", e}, {"gzhttp", wrap(service)},
		{"NYTimes/gziphandler", gziphandler.GzipHandler(service)}, {"CAFxX/httpcompression", adapter(service)}} {
		fmt.Printf("%s: the first event comes %s\n", m.name, first(m))
	}
}

// first tells after which event the first one has come.
func first(h http.Handler) string {
	server := httptest.NewServer(h)
	defer server.Close()
	r, _ := http.NewRequest("GET", server.URL, nil)
	r.Header.Set("Accept-Encoding", "gzip")
	begun := time.Now()
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body := io.Reader(answer.Body)
	if answer.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			return err.Error()
		}
	}
	lines, after := bufio.NewReader(body), time.Duration(0)
	count := 0
	for {
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, "data") {
			if count++; count == 1 {
				after = time.Since(begun)
			}
		}
		if err != nil {
			break
		}
	}
	if count != events {
		return fmt.Sprint("with ", count, " events")
	}
	if after < beat {
		return "at once"
	}
	return fmt.Sprintf("with number %d", after/beat+1)
}
GO
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
go mod init look >/dev/null 2>&1
go get github.com/CAFxX/httpcompression@v0.0.8 github.com/NYTimes/gziphandler@v1.1.1 github.com/gin-contrib/gzip@v1.2.5 github.com/gorilla/handlers@v1.5.2 github.com/klauspost/compress@v1.20.4 github.com/labstack/echo/v4@v4.16.5 >/dev/null 2>&1
go run . | tee seen
diff seen - <<'WANT'
gorilla/handlers: the first event comes at once
gin-contrib/gzip: the first event comes at once
echo, MinLength 1400: the first event comes at once
gzhttp: the first event comes at once
NYTimes/gziphandler: the first event comes with number 22
CAFxX/httpcompression: the first event comes with number 4
WANT
# 2026-12-01, Go 1.26.8: as above.
