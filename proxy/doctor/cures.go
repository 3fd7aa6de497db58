package doctor

import (
	"slices"

	"sidestream/proxy/probe"
)

// Any is the product of cures that hold for all.
const Any = "any"

// ill is something that there are cures for.
type ill int

const (
	well       ill = iota
	noProbe        // the probe's paths are not the sidecar's
	holds          // events are held back
	lags           // each waits for something
	compresses     // streams are compressed
	impatient      // silence is cut
	seamless       // a cut looks like an end, or like nothing
	strips         // headers do not arrive
	renames        // Host is another one
	anonymous      // no address of the client's
	schemeless     // no scheme of the client's
	ancient        // HTTP/1.0
	sixOnly        // HTTP/1.1 to browsers
	noUpgrade      // WebSockets do not pass
	small          // POSTs are limited
	scattered      // replicas without a history
)

// remedies are the lines to write, by what they are against and whose configuration they are for. What Debian's proxies do
// as they come is mended by them in e2e/doctor_test.go; the others have not been tried.
var remedies = map[ill]map[string][]string{
	noProbe: {
		probe.Nginx: {"location /_sidestream/ { proxy_pass http://127.0.0.1:8080; }   # as for the routes"},
		Any:         {"pass /_sidestream/ on to the sidecar, below the same prefix as the routes: the scripts for pages are there, too", "SSE_DOCTOR=on, the default"},
	},
	holds: {
		probe.Nginx:      {"proxy_buffering off;   # or no proxy_ignore_headers X-Accel-Buffering, no proxy_hide_header in another nginx behind this one"},
		probe.HAProxy:    {"option http-no-delay", "# and no compression, no http-response wait-for-body"},
		probe.Apache:     {"ProxyPass / http://127.0.0.1:8080/ retry=0 flushpackets=on", "SetEnvIfNoCase Accept text/event-stream no-gzip"},
		probe.Caddy:      {"reverse_proxy 127.0.0.1:8080 {", "    flush_interval -1", "}"},
		probe.Varnish:    {"sub vcl_backend_response {", `    if (beresp.http.Content-Type ~ "event-stream") { set beresp.do_stream = true; set beresp.do_gzip = false; }`, "}"},
		probe.Lighttpd:   {"server.stream-response-body = 1"},
		probe.Squid:      {"# no ICAP or eCAP service that reads whole answers:", "acl events rep_mime_type text/event-stream", "adaptation_access SERVICE deny events"},
		probe.Envoy:      {"# no buffer filter on the route:", "typed_per_filter_config: { envoy.filters.http.buffer: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute, disabled: true } }"},
		probe.Cloudflare: {"a Cache Rule for the path: Bypass cache; a Compression Rule for it: disabled"},
		Any:              {"answers with Content-Type: text/event-stream are to be passed on as they come: no buffering, no caching, no compression, no scanning of the whole"},
	},
	lags: {
		probe.Nginx:   {"tcp_nodelay on;"},
		probe.HAProxy: {"option http-no-delay"},
		Any:           {"turn off Nagle's algorithm towards clients (TCP_NODELAY)"},
	},
	compresses: {
		probe.Nginx:      {"gzip_types text/css application/javascript application/json;   # without text/event-stream and *"},
		probe.HAProxy:    {"# no `compression algo`, or in a backend without the routes"},
		probe.Apache:     {"SetEnvIfNoCase Accept text/event-stream no-gzip"},
		probe.Caddy:      {"@pages not header Accept text/event-stream", "encode @pages gzip"},
		probe.Varnish:    {"sub vcl_backend_response {", `    if (beresp.http.Content-Type ~ "event-stream") { set beresp.do_gzip = false; }`, "}"},
		probe.Lighttpd:   {`deflate.mimetypes = ( "text/html", "text/css", "application/javascript" )   # without text/`},
		probe.Envoy:      {"# compressor filter: content_type without text/event-stream"},
		probe.Cloudflare: {"a Compression Rule for the path: disabled"},
		Any:              {"do not compress text/event-stream, nor what says Cache-Control: no-transform"},
	},
	impatient: {
		probe.Nginx:      {"proxy_read_timeout 60s;   # more than HEARTBEAT"},
		probe.HAProxy:    {"timeout client 60s", "timeout server 60s"},
		probe.Apache:     {"ProxyTimeout 60"},
		probe.Caddy:      {"# no read_timeout or write_timeout in the reverse_proxy's transport and the server's timeouts"},
		probe.Varnish:    {"backend default { ...; .between_bytes_timeout = 60s; }"},
		probe.Lighttpd:   {`proxy.server = ( "" => ( ( "host" => "127.0.0.1", "port" => 8080, "read-timeout" => 60 ) ) )`, "server.max-write-idle = 360"},
		probe.Squid:      {"read_timeout 15 minutes", "client_lifetime 1 day"},
		probe.Envoy:      {"route: { timeout: 0s, idle_timeout: 300s }", "stream_idle_timeout: 300s"},
		probe.ALB:        {"idle_timeout.timeout_seconds = 120"},
		probe.Cloudflare: {"SSE_HEARTBEAT=30s   # it cuts after 100 s of silence, which cannot be set"},
		Any:              {"SSE_HEARTBEAT below half of it, or a longer timeout for answers that go on"},
	},
	seamless: {
		probe.Caddy:    {"# a newer Caddy: 2.6 does this to every answer, current ones pass the cut on"},
		probe.Lighttpd: {"server.stream-response-body = 1"},
		Any:            {"clients by fetch should take only 204 for the end, as SidestreamEventSource does"},
	},
	strips: {
		probe.Nginx: {"# no proxy_set_header, proxy_pass_request_headers off or underscores rule that takes it away"},
		probe.Squid: {"cache_peer 127.0.0.1 parent 8080 0 no-query originserver login=PASSTHRU   # Authorization"},
		Any:         {"pass the header on as it is"},
	},
	renames: {
		probe.Nginx:    {"proxy_set_header Host $http_host;"},
		probe.HAProxy:  {"# no http-request set-header host"},
		probe.Apache:   {"ProxyPreserveHost On"},
		probe.Caddy:    {"reverse_proxy 127.0.0.1:8080 {", "    header_up Host {hostport}", "}"},
		probe.Varnish:  {"# no set req.http.host, and no .host_header in the backend"},
		probe.Lighttpd: {"# no proxy.header map-host-request"},
		probe.Squid:    {"# cache_peer without forceddomain="},
		probe.Envoy:    {"# no host_rewrite_literal or auto_host_rewrite in the route"},
		Any:            {"pass Host on as the client has sent it, or put the page's origin into SSE_CORS_ORIGINS"},
	},
	anonymous: {
		probe.Nginx:    {"proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"},
		probe.HAProxy:  {"option forwardfor"},
		probe.Apache:   {"# ProxyAddHeaders On, the default"},
		probe.Lighttpd: {"# mod_proxy adds it"},
		probe.Squid:    {"forwarded_for on"},
		probe.Envoy:    {"use_remote_address: true"},
		Any:            {"append the client's address to X-Forwarded-For, and put the proxy's own into SSE_TRUSTED_PROXIES"},
	},
	schemeless: {
		probe.Nginx:   {"proxy_set_header X-Forwarded-Proto $scheme;"},
		probe.HAProxy: {"http-request set-header X-Forwarded-Proto https if { ssl_fc }"},
		probe.Apache:  {`RequestHeader set X-Forwarded-Proto "expr=%{REQUEST_SCHEME}"`},
		probe.Varnish: {"# the TLS proxy in front of it: add X-Forwarded-Proto there"},
		Any:           {"set X-Forwarded-Proto to the client's scheme"},
	},
	ancient: {
		probe.Nginx:  {"proxy_http_version 1.1;", `proxy_set_header Connection "";`},
		probe.Apache: {"# no SetEnv force-proxy-request-1.0"},
		Any:          {"speak HTTP/1.1 to the sidecar"},
	},
	sixOnly: {
		probe.Nginx:    {"listen 443 ssl http2;"},
		probe.HAProxy:  {"bind :443 ssl crt /etc/haproxy/cert.pem alpn h2,http/1.1"},
		probe.Apache:   {"Protocols h2 http/1.1   # with TLS"},
		probe.Lighttpd: {"# HTTP/2 is on with TLS"},
		Any:            {"serve HTTPS with HTTP/2: browsers speak it over TLS only"},
	},
	noUpgrade: {
		probe.Nginx: {"proxy_http_version 1.1;", "proxy_set_header Upgrade $http_upgrade;", "proxy_set_header Connection $connection_upgrade;",
			"# in http {}: map $http_upgrade $connection_upgrade { default upgrade; '' ''; }"},
		probe.Apache:     {"ProxyPass / http://127.0.0.1:8080/ retry=0 upgrade=websocket   # 2.4.47 and later"},
		probe.Varnish:    {`sub vcl_recv { if (req.http.upgrade ~ "(?i)websocket") { return (pipe); } }`, "sub vcl_pipe { if (req.http.upgrade) { set bereq.http.upgrade = req.http.upgrade; set bereq.http.connection = req.http.connection; } }"},
		probe.Lighttpd:   {`proxy.header = ( "upgrade" => "enable" )`},
		probe.Squid:      {"http_upgrade_request_protocols websocket allow all"},
		probe.Envoy:      {"upgrade_configs: [ { upgrade_type: websocket } ]"},
		probe.Cloudflare: {"Network: WebSockets on"},
		Any:              {"pass Upgrade and Connection on, or have pages use the tunnel (SSE_TUNNEL)"},
	},
	small: {
		probe.Nginx:    {"client_max_body_size 4m;"},
		probe.Apache:   {"LimitRequestBody 4194304"},
		probe.Caddy:    {"request_body {", "    max_size 4MB", "}"},
		probe.Lighttpd: {"server.max-request-size = 4096   # KiB"},
		probe.Squid:    {"request_body_max_size 4 MB"},
		probe.Envoy:    {"# buffer filter: max_request_bytes: 4194304"},
		Any:            {"allow bodies of what MAX_MESSAGE is"},
	},
	scattered: {
		probe.Nginx:   {"upstream sidecar { ip_hash; ... }"},
		probe.HAProxy: {"balance source   # or: cookie SRV insert indirect"},
		probe.ALB:     {"stickiness.enabled = true"},
		Any:           {"SSE_HISTORY=redis://…, which the replicas share, or keep a browser on one of them"},
	},
}

// cures are those of an ill for what was recognised, and for the rest.
func cures(of ill, products []string) (all []Cure) {
	lines := remedies[of]
	for _, product := range products {
		if lines[product] != nil {
			all = append(all, Cure{product, lines[product]})
		}
	}
	if general := lines[Any]; general != nil && (len(all) == 0 || slices.Contains([]ill{noProbe, scattered}, of)) {
		all = append(all, Cure{Any, general})
	}
	return all
}
