package outbound

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// Proxies are the forward proxies, as HTTP_PROXY, HTTPS_PROXY and NO_PROXY name them. The zero value: none.
type Proxies struct {
	HTTP, HTTPS string // for http:// and ws://, for https:// and wss://; they may hold a password
	No          string // hosts that are dialled directly
}

// For is the proxy for an address, nil for none. Loopback has none, nor has what NO_PROXY names.
func (p Proxies) For(to *url.URL) *url.URL { return p.read()(to) }

// read returns For, with the texts read.
func (p Proxies) read() func(*url.URL) *url.URL {
	if p.HTTP == "" && p.HTTPS == "" {
		return func(*url.URL) *url.URL { return nil }
	}
	find := (&httpproxy.Config{HTTPProxy: p.HTTP, HTTPSProxy: p.HTTPS, NoProxy: p.No}).ProxyFunc()
	return func(to *url.URL) *url.URL {
		u := *to
		switch u.Scheme {
		case "ws":
			u.Scheme = "http"
		case "wss":
			u.Scheme = "https"
		}
		via, _ := find(&u) // which fails only with CGI
		return via
	}
}

// CheckProxy reports what is wrong with the address of a proxy, with the fix. It quotes nothing: there may be a password.
func CheckProxy(address string) error {
	const write = "write its address, such as http://proxy:3128 or http://USER:PASSWORD@proxy:3128 (other characters than letters and digits in them percent-encoded)"
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("is not the address of a proxy; " + write)
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme):
		return errors.New("is a proxy of another kind than http, https and socks5; " + write)
	}
	return nil
}

// Shown is a proxy without user name and password.
func Shown(via *url.URL) string { return via.Scheme + "://" + via.Host }
