package probe

import (
	"net/http"
	"slices"
	"strings"
)

// What may stand between, by the name that Recognise has for it.
const (
	Nginx      = "nginx"
	HAProxy    = "HAProxy"
	Apache     = "Apache"
	Caddy      = "Caddy"
	Varnish    = "Varnish"
	Lighttpd   = "lighttpd"
	Squid      = "Squid"
	Envoy      = "Envoy"
	ALB        = "ALB"
	Cloudflare = "Cloudflare"
	CloudFront = "CloudFront"
	Traefik    = "Traefik"
)

// marks are what products leave in a header of a request or an answer: in its name alone, or with a part of its value, in lower case.
var marks = []struct{ name, part, product string }{
	{"Server", "nginx", Nginx}, {"Server", "openresty", Nginx}, {"Server", "haproxy", HAProxy}, {"Server", "apache", Apache}, {"Server", "caddy", Caddy},
	{"Server", "varnish", Varnish}, {"Server", "lighttpd", Lighttpd}, {"Server", "squid", Squid}, {"Server", "envoy", Envoy},
	{"Server", "awselb", ALB}, {"Server", "cloudflare", Cloudflare}, {"Server", "cloudfront", CloudFront},
	{"Via", "varnish", Varnish}, {"Via", "squid", Squid}, {"Via", "caddy", Caddy}, {"Via", "apache", Apache}, {"Via", "nginx", Nginx},
	{"Via", "haproxy", HAProxy}, {"Via", "cloudfront", CloudFront},
	{"X-Varnish", "", Varnish}, {"X-Squid-Error", "", Squid}, {"X-Cache-Lookup", " from ", Squid}, {"X-Cache", " from ", Squid}, {"X-Cache", "cloudfront", CloudFront},
	{"Cf-Ray", "", Cloudflare}, {"Cf-Connecting-Ip", "", Cloudflare}, {"X-Amzn-Trace-Id", "", ALB}, {"X-Amz-Cf-Id", "", CloudFront},
	{"X-Envoy-Upstream-Service-Time", "", Envoy}, {"X-Envoy-Expected-Rq-Timeout-Ms", "", Envoy}, {"X-Envoy-Attempt-Count", "", Envoy}, {"X-Envoy-External-Address", "", Envoy},
	{"X-Haproxy-Server-State", "", HAProxy},
}

// Recognise returns the products that have left their mark on a header.
func Recognise(h http.Header) []string {
	found := []string{}
	add := func(product string) {
		if !slices.Contains(found, product) {
			found = append(found, product)
		}
	}
	for _, m := range marks {
		// CloudFront's X-Cache reads "Miss from cloudfront".
		if text := strings.ToLower(strings.Join(h[m.name], ",")); h[m.name] != nil && strings.Contains(text, m.part) &&
			!(m.product == Squid && strings.Contains(text, "cloudfront")) {
			add(m.product)
		}
	}
	if h["X-Forwarded-Server"] != nil { // which the two alone add
		if h["X-Real-Ip"] != nil || h["X-Forwarded-Port"] != nil {
			add(Traefik)
		} else {
			add(Apache)
		}
	}
	return found
}
