// This file is who may ask the admin port. The rules:
//
//   - /livez and /readyz are for anybody.
//   - With SSE_ADMIN_TOKEN everything else needs it, but for requests from this machine itself. One that a proxy on this machine has passed
//     on is not from it: that shows in the headers that most add, or in the name that the port was asked by. A proxy that shows
//     neither cannot be told from a program here.
//   - Without a token, what a page or a scraper has always been given is given as before, and so is revocation; the dashboard, which shows
//     addresses, log lines and what can be asked for beside them, and what changes the sidecar are for this machine only.
//   - A browser is asked for the token as for a password; programs send it as a bearer token.

package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// probes need no token.
var probes = []string{"/livez", "/readyz"}

const noToken = "this is for this machine only while SSE_ADMIN_TOKEN is not set; set it, or come by way of an SSH tunnel or kubectl port-forward"

// local lets through who is on this machine, where there is no token that others could have.
func (a Port) local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a.Token == "" && !a.fromHere(r) {
			http.Error(w, noToken, http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// authorize lets through who is on this machine or has the token, where there is one.
func (a Port) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case a.Token == "", slices.Contains(probes, r.URL.Path), a.fromHere(r), a.knows(r):
			next.ServeHTTP(w, r)
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="Sidestream: any name, and SSE_ADMIN_TOKEN as the password", charset="UTF-8"`)
			http.Error(w, "this needs SSE_ADMIN_TOKEN, as a bearer token or as the password of any user", http.StatusUnauthorized)
		}
	})
}

// passedOn are headers that proxies add.
var passedOn = []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-Ip", "X-Forwarded-Host", "X-Forwarded-Proto"}

// fromHere reports whether r is from this machine, and from no proxy on it.
func (a Port) fromHere(r *http.Request) bool {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !at.Addr().Unmap().IsLoopback() || !a.isOwn(hostname(r.Host)) {
		return false
	}
	return !slices.ContainsFunc(passedOn, func(name string) bool { return len(r.Header[name]) > 0 })
}

// isOwn reports whether host is how programs on this machine ask the port, and no name that a proxy is known by.
func (a Port) isOwn(host string) bool {
	own, _, _ := net.SplitHostPort(a.Address)
	at, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || host == strings.ToLower(own) || err == nil && at.Unmap().IsLoopback()
}

// knows reports whether r has the token. How long that takes tells nothing of it.
func (a Port) knows(r *http.Request) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		if _, given, ok = r.BasicAuth(); !ok {
			return false
		}
	}
	is, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(a.Token))
	return subtle.ConstantTimeCompare(is[:], want[:]) == 1
}
