//go:build linux

package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	payloadSize = 200
	stampDigits = 19
)

var (
	mark  = []byte("~")     // is in each event once
	stamp = []byte(`{"t":`) // before the time of sending, in ns since 1970
)

var padding = strings.Repeat("x", payloadSize)

// appendPayload is one event's data: JSON of payloadSize bytes.
func appendPayload(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, stamp...)
	dst = fmt.Appendf(dst, `%0*d,"symbol":"BENCH","text":"`, stampDigits, time.Now().UnixNano())
	dst = append(dst, padding[:payloadSize-(len(dst)-start)-len(`~"}`)]...)
	return append(dst, `~"}`...)
}

// feed is where a server gets its events from.
type feed struct {
	to    writer
	frame func(dst, payload []byte) []byte
}

type writer interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}

// framePipe is how the bench's own servers get events: the length in four bytes, and the payload.
func framePipe(dst, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(payload))), payload...)
}

// frameWebSocket is an unmasked text frame (RFC 6455, section 5.2) of 126 to 65535 bytes.
func frameWebSocket(dst, payload []byte) []byte {
	dst = append(dst, 0x81, 126)
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(payload))), payload...)
}

// framePost is a request to nchan's publisher.
func framePost(dst, payload []byte) []byte {
	dst = fmt.Appendf(dst, "POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n", len(payload))
	return append(dst, payload...)
}

// publish sends n events, rate a second, as they are due: what is due at once leaves in one write. It returns when all
// are sent, or after most without a server that takes them.
func (f *feed) publish(n int, rate float64, most time.Duration) error {
	f.to.SetWriteDeadline(time.Now().Add(most))
	defer f.to.SetWriteDeadline(time.Time{})
	var out, payload []byte
	begin := time.Now()
	for sent := 0; sent < n; {
		due := min(n, int(time.Since(begin).Seconds()*rate)+1)
		for out = out[:0]; sent < due && len(out) < 32<<10; sent++ {
			payload = appendPayload(payload[:0])
			out = f.frame(out, payload)
		}
		if len(out) > 0 {
			if _, err := f.to.Write(out); err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			continue
		}
		time.Sleep(time.Until(begin.Add(time.Duration(float64(sent) / rate * float64(time.Second)))))
	}
	return nil
}

// acceptWebSocket waits for the sidecar's subscription. What it sends is thrown away: IDLE is so long that it sends no pings. A connection that says nothing,
// as that of a sidecar that is ended while it dials, is not waited for; an error is the listener's.
func acceptWebSocket(l net.Listener) (net.Conn, error) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if err := upgrade(conn); err != nil {
			conn.Close()
			continue
		}
		conn.SetDeadline(time.Time{})
		go io.Copy(io.Discard, conn) // ends with conn
		return conn, nil
	}
}

// upgrade is the server's half of the handshake (RFC 6455, section 4.2.2).
func upgrade(conn net.Conn) error {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	return err
}
