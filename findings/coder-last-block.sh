#!/usr/bin/env bash
# Guess: a compressed WebSocket message whose last block says that it is the last one, which is the example of RFC 7692, 7.2.3.4, is read, and so are the messages after it.
# Instead: coder/websocket reads it, and fails at the next compressed message with "flate: corrupt input", whatever was agreed on about context takeover. The empty block that
#   the receiver appends was not needed for the first message, and is left standing in front of the second.
# Version: github.com/coder/websocket v1.8.15, Go 1.26.
# Why it matters: a service whose zlib finishes each message (Z_FINISH) is within the RFC, and a Go client of it ends at its second message, each time that it connects. What works for
#   a feed that says one thing does not for one that goes on. Sidestream reads frames itself, and takes this.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >go.mod <<'MOD'
module see

go 1.26.0
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/coder/websocket"
)

// Both are "Hello": as most compress it (7.2.3.1), and with a block that says that it is the last (7.2.3.4).
var (
	usual = []byte{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}
	final = []byte{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}
)

// read is what a client reads of messages that come one after the other.
func read(extension string, messages ...[]byte) (all string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Extensions: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]), extension)
		for _, m := range messages {
			out.Write(append([]byte{0xc1, byte(len(m))}, m...)) // text, compressed, whole
		}
		out.Write([]byte{0x88, 2, 3, 232}) // close, 1000
		out.Flush()
		conn.Read(make([]byte, 100))
	}))
	defer server.Close()
	ctx := context.Background()
	ws, _, err := websocket.Dial(ctx, server.URL, &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		panic(err)
	}
	defer ws.CloseNow()
	for {
		_, data, err := ws.Read(ctx)
		switch {
		case websocket.CloseStatus(err) == websocket.StatusNormalClosure:
			return all + "end"
		case err != nil:
			return all + err.Error()
		}
		all += string(data) + ", "
	}
}

func main() {
	for _, extension := range []string{"permessage-deflate", "permessage-deflate; server_no_context_takeover"} {
		fmt.Println("usual, usual:", read(extension, usual, usual))
		fmt.Println("final, usual:", read(extension, final, usual))
		fmt.Println("usual, final, final:", read(extension, usual, final, final))
	}
}
GO
go mod edit -require=github.com/coder/websocket@v1.8.15
GOFLAGS=-mod=mod go run . >saw 2>err || { cat err >&2; exit 1; }
cat saw
cat >want <<'WANT'
usual, usual: Hello, Hello, end
final, usual: Hello, failed to read: flate: corrupt input before offset 5
usual, final, final: Hello, Hello, failed to read: flate: corrupt input before offset 5
usual, usual: Hello, Hello, end
final, usual: Hello, failed to read: flate: corrupt input before offset 5
usual, final, final: Hello, Hello, failed to read: flate: corrupt input before offset 5
WANT
diff want saw
