package outbound

import (
	"fmt"
	"runtime"
	"strings"
)

// maxSocket is how long the name of a socket can be, in bytes: sockaddr_un has 108, with a NUL.
const maxSocket = 107

// host is what a service on a Unix socket is called in addresses.
const host = "localhost"

// OnSocket reports whether address is one on a Unix socket: http+unix:// or ws+unix://.
func OnSocket(address string) bool {
	return strings.HasPrefix(address, "http+unix://") || strings.HasPrefix(address, "ws+unix://")
}

// SplitSocket takes an address on a Unix socket apart: ws+unix:///run/app.sock:/feed?x=1 is the socket /run/app.sock and ws://localhost/feed?x=1.
// The address of any other scheme comes back as it is, with the socket "". The error says what is wrong and the fix, and quotes nothing.
func SplitSocket(address string) (socket, plain string, err error) {
	if !OnSocket(address) {
		return "", address, nil
	}
	scheme, rest, _ := strings.Cut(address, "+unix://")
	write := fmt.Sprintf("write %s+unix:///run/app.sock:/path, the socket's absolute path, a colon, and the path on the service", scheme)
	socket, path, _ := strings.Cut(rest, ":")
	switch {
	case strings.ContainsAny(socket, "{}"):
		return "", "", fmt.Errorf("has a placeholder in the socket's path, where none is allowed; %s", write)
	case strings.ContainsAny(socket, "?#\x00"):
		return "", "", fmt.Errorf("has no colon after the socket's path; %s", write)
	case len(socket) > maxSocket:
		return "", "", fmt.Errorf("names a socket by more than %d bytes, which is all that systems allow; give it a shorter path", maxSocket)
	case strings.HasPrefix(socket, "@") && len(socket) > 1 && runtime.GOOS != "linux":
		return "", "", fmt.Errorf("names an abstract socket, which only Linux has; %s", write)
	case strings.HasPrefix(socket, "@") && len(socket) > 1:
	case !strings.HasPrefix(socket, "/") || strings.HasSuffix(socket, "/"):
		return "", "", fmt.Errorf("does not name a socket by its absolute path; %s", write)
	}
	switch {
	case path == "", strings.HasPrefix(path, "/"):
	case strings.HasPrefix(path, "?"):
		path = "/" + path
	default:
		return "", "", fmt.Errorf("has a path after the colon that does not begin with /; %s", write)
	}
	if path == "" {
		path = "/"
	}
	return socket, scheme + "://" + host + path, nil
}
