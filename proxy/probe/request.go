package probe

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"sidestream/proxy/deliver"
)

// Words is a request as it has arrived, for its asker.
type Words struct {
	Sidestream    bool                `json:"sidestream"` // true
	Instance      string              `json:"instance"`   // see InstanceHeader
	Shared        bool                `json:"shared"`     // replicas share their streams
	Time          int64               `json:"time"`       // microseconds since 1970
	Proto         string              `json:"proto"`      // of the last hop
	Host          string              `json:"host"`       // the asker's, as it said in ?host=, or the kind of another one
	Peer          string              `json:"peer"`       // kind of the address that the sidecar sees: loopback, private or public
	Header        map[string][]string `json:"header"`     // of those in shown, and in hosts
	Cookies       []Cookie            `json:"cookies"`
	Authorization bool                `json:"authorization"`
	Products      []string            `json:"products"` // that have left their mark on the request
}

// Cookie is one that has arrived.
type Cookie struct {
	Name   string `json:"name"`
	Length int    `json:"length"`
}

var (
	// shown are the headers whose values are told as they are.
	shown = []string{"Accept", "Accept-Encoding", "Cache-Control", "Last-Event-Id", "Origin", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Sidestream-Doctor"}
	// hosts are the headers that name hosts, which are told as far as they are the asker's.
	hosts = []string{"X-Forwarded-For", "X-Real-Ip", "X-Forwarded-Host"}
)

const (
	maxValues = 8
	maxLength = 200
)

// request tells how a request has arrived.
func (p *Probe) request(w http.ResponseWriter, r *http.Request) deliver.Rest {
	own := r.URL.Query().Get("host")
	said := Words{Sidestream: true, Instance: p.instance, Shared: p.Shared, Time: time.Now().UnixMicro(), Proto: r.Proto, Host: host(r.Host, own),
		Header: map[string][]string{}, Cookies: []Cookie{}, Authorization: r.Header.Get("Authorization") != "", Products: Recognise(r.Header)}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		if said.Peer = kind(at.Addr()); said.Peer == "" {
			said.Peer = "public"
		}
	}
	for _, name := range shown {
		for _, value := range first(r.Header[name]) {
			said.Header[name] = append(said.Header[name], short(value))
		}
	}
	for _, name := range hosts {
		for _, value := range first(r.Header[name]) {
			said.Header[name] = append(said.Header[name], hostList(value, own))
		}
	}
	for _, c := range first(r.Cookies()) {
		said.Cookies = append(said.Cookies, Cookie{short(c.Name), len(c.Value)})
	}
	return say(w, http.StatusOK, said)
}

func first[T any](all []T) []T { return all[:min(len(all), maxValues)] }

func short(s string) string { return s[:min(len(s), maxLength)] }

// hostList tells of each host in a list.
func hostList(list, own string) string {
	var all []string
	for item := range strings.SplitSeq(list, ",") {
		all = append(all, host(strings.TrimSpace(item), own))
	}
	return strings.Join(first(all), ", ")
}

// host tells of a host, with a port or without: itself where it is the asker's own or a public address, else its kind.
func host(s, own string) string {
	if strings.EqualFold(s, own) {
		return short(s)
	}
	name := s
	if bare, _, err := net.SplitHostPort(s); err == nil {
		name = bare
	}
	at, err := netip.ParseAddr(strings.Trim(name, "[]"))
	switch {
	case s == "":
		return ""
	case err != nil:
		return "(another name)"
	case kind(at) != "":
		return "(" + kind(at) + " address)"
	}
	return at.Unmap().WithZone("").String()
}

// carriers is the address space of carriers (RFC 6598), of which netip does not know.
var carriers = netip.MustParsePrefix("100.64.0.0/10")

// kind is that of an address that is not public.
func kind(at netip.Addr) string {
	switch at = at.Unmap(); {
	case at.IsLoopback():
		return "loopback"
	case at.IsPrivate(), at.IsLinkLocalUnicast(), carriers.Contains(at), at.IsUnspecified():
		return "private"
	}
	return ""
}
