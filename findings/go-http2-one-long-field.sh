#!/usr/bin/env bash
# Guess: http.Server.MaxHeaderBytes bounds a request's header, and a request over it is answered with 431, whichever version of HTTP it
#   came by. The same 20 KiB of header are refused in the same way, in one field or in ten.
# What happens: over HTTP/1.1 both are a 431. Over HTTP/2 ten fields of 2 KiB are a 431 too, but one field of 20 KiB ends the connection
#   with GOAWAY COMPRESSION_ERROR, and with it all other requests of the browser that share it.
# Versions: go 1.26.8 and go 1.27.3, net/http's server; golang.org/x/net 0.62.0 as the client.
# Why it matters here: a server that lowers MaxHeaderBytes lets one long token cut all event streams of its connection; over HTTP/2 the
#   bound has to be the handler's own.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >go.mod <<'MOD'
module see

go 1.26.0

require golang.org/x/net v0.62.0
MOD
cat >main.go <<'GO'
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func main() {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	s.Config.MaxHeaderBytes = 16 << 10
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	for _, count := range []int{10, 1} {
		values := make([]string, count)
		for i := range values {
			values[i] = strings.Repeat("x", 20<<10/count)
		}
		fmt.Printf("fields %d: HTTP/1.1 %s, HTTP/2 %s\n", count, one(s.URL, values), two(s.Listener.Addr().String(), values))
	}
}

func one(url string, values []string) string {
	r, _ := http.NewRequest("GET", url, nil)
	r.Header["X-Token"] = values
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	resp.Body.Close()
	return fmt.Sprint(resp.StatusCode)
}

func two(addr string, values []string) string {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	var head bytes.Buffer
	e := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "h"}, {":path", "/"}} {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for _, v := range values {
		e.WriteField(hpack.HeaderField{Name: "x-token", Value: v})
	}
	io.WriteString(conn, http2.ClientPreface)
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	first, rest := head.Next(16384), head.Bytes()
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndStream: true, EndHeaders: len(rest) == 0})
	if len(rest) > 0 {
		f.WriteContinuation(1, true, rest)
	}
	for {
		switch frame, err := f.ReadFrame(); frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.GoAwayFrame:
			return "GOAWAY " + frame.ErrCode.String()
		case nil:
			return err.Error()
		}
	}
}
GO
go mod tidy >/dev/null 2>&1
want='fields 10: HTTP/1.1 431, HTTP/2 431
fields 1: HTTP/1.1 431, HTTP/2 GOAWAY COMPRESSION_ERROR'
for version in go1.26.8 go1.27.3; do
  saw="$(GOTOOLCHAIN=$version timeout 120 go run .)"
  printf '%s\n%s\n' "$version" "$saw"
  [ "$saw" = "$want" ] || { echo "this has changed" >&2; exit 1; }
done
