// Package ports finds ports for servers that need to know theirs beforehand, and have it again when they are restarted. The rules:
//
//   - A port is none of those that the system gives to connections: while a server is away, one of them, of any program, could take its port.
//   - None is given twice by one process, nor, as far as chance goes, by two.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
)

// first and usual bound the ports that are given, where the system does not say where its own begin. 10080 is the last one that browsers refuse.
const first, usual = 10_081, 32_768

var given sync.Map // ports

// Free returns a port on 127.0.0.1 on which nothing listens, nor on the one that is 10000 above it where a Redis cluster's node does, too.
func Free() (int, error) {
	end := usual
	var low int
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(text), &low); err == nil && low > first+1000 {
			end = low
		}
	}
	for range 1000 {
		port := first + rand.N(end-first)
		if _, twice := given.LoadOrStore(port, true); !twice && unused(port) && unused(port+10_000) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free", first, end-1)
}

// Address is 127.0.0.1 with a port of Free's.
func Address() (string, error) {
	port, err := Free()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

func unused(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
