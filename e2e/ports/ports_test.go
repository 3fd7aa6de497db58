package ports

import (
	"net"
	"testing"
)

// Ports differ, are free, and are none that a connection gets.
func TestFree(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		addr, err := Address()
		if err != nil || seen[addr] {
			t.Fatal(addr, err)
		}
		seen[addr] = true
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if port := conn.LocalAddr().(*net.TCPAddr).Port; port < usual && l.Addr().(*net.TCPAddr).Port >= port {
			t.Errorf("%s, and a connection has %d", addr, port)
		}
		conn.Close()
		l.Close()
	}
}
