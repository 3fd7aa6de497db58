package config

import (
	"reflect"
	"strings"
)

// The two structs below are the environment: names, defaults, bounds and meanings stand here and nowhere else. Tags:
//
//	env         name, after SSE_ or SSE_ROUTE_<NAME>_
//	envDefault  value when unset
//	show        default as the documentation tells it, where it is not a value
//	doc         meaning
//	global      "yes": a route's setting that may also be given globally
//	kind        "ws", "poll" or "stream" (MODE=stream, which also takes what is for polls): the kinds of route it has an
//	            effect on; all without. Those of merged routes are in merged.go
//	oneof       the values allowed, separated by blanks
//	min, max    bounds of spans, sizes and counts; 0 means none and is outside them...
//	none        ..."no": except where having none makes no sense
//	reload      of a global one: "yes", a reload changes it; "routes", it does, and all routes with it; "restart", it cannot. A
//	            route's setting needs none: a reload changes the route
type globals struct {
	Listen         string `env:"LISTEN" envDefault:":8080" reload:"restart" doc:"public address; unix:/run/sse.sock listens on a Unix socket, for a proxy on the same machine"`
	ListenMode     mode   `env:"LISTEN_MODE" envDefault:"0660" reload:"restart" doc:"permissions of the Unix socket of SSE_LISTEN, in octal: who may write to it may connect"`
	AdminListen    string `env:"ADMIN_LISTEN" envDefault:"127.0.0.1:9091" reload:"restart" doc:"address of the admin port: health, metrics and status; off disables it"`
	AdminHosts     list   `env:"ADMIN_HOSTS" reload:"restart" doc:"further Host names that the admin port answers to, comma-separated, besides its own address, localhost and IP addresses"`
	AdminToken     string `env:"ADMIN_TOKEN" reload:"restart" doc:"what requests to the admin port need that are not from this machine itself, or came by a proxy that adds X-Forwarded-For or keeps the Host: at least 16 bytes, as a bearer token or as the password of any user. Unset, the [dashboard](../proxy/admin/README.md#the-dashboard), reload and drain are for this machine only, and health, metrics, status and revocation for whoever reaches the port"`
	AdminPayloads  toggle `env:"ADMIN_PAYLOADS" envDefault:"false" reload:"restart" doc:"true: the dashboard shows the newest events of a stream, which may hold what is for its clients only"`
	Upstream       string `env:"UPSTREAM" reload:"restart" doc:"base URL of the legacy service; whatever no route answers is passed through to it, WebSocket upgrades included; unset: 404. http+unix:///run/app.sock is on a Unix socket, and a colon and a path may follow"`
	TLSCert        string `env:"TLS_CERT" reload:"restart" doc:"path of the PEM certificate chain; turns on HTTPS with HTTP/2, reloaded when the file changes. Without it: HTTP/1.1 and h2c"`
	TLSKey         string `env:"TLS_KEY" reload:"restart" doc:"path of the PEM private key"`
	CORSOrigins    list   `env:"CORS_ORIGINS" reload:"yes" doc:"exact origins, comma-separated, that may make cross-origin requests with credentials"`
	Tunnel         list   `env:"TUNNEL" reload:"restart" doc:"path prefixes, comma-separated, under which pages may have their WebSockets over events and POSTs, at /_sidestream/tunnel; / for all. Needs SSE_UPSTREAM"`
	MaxClients     count  `env:"MAX_CLIENTS" envDefault:"10000" max:"1000000000" reload:"yes" doc:"SSE clients at once; 0 means no limit; also per route"`
	MaxStreams     count  `env:"MAX_STREAMS" envDefault:"10000" max:"1000000000" reload:"yes" doc:"upstream connections at once; 0 means no limit; also per route"`
	MaxHeader      size   `env:"MAX_HEADER" envDefault:"64KiB" min:"8KiB" max:"16MiB" none:"no" reload:"restart" doc:"size of the request line and headers of a client; 431 above it"`
	MaxValue       size   `env:"MAX_VALUE" envDefault:"16KiB" min:"1" max:"1MiB" none:"no" reload:"routes" doc:"size of one value of a client's request in a placeholder; 400 above it"`
	Drain          span   `env:"DRAIN" envDefault:"10s" max:"1h" reload:"yes" doc:"shutdown window over which clients are released"`
	Restart        span   `env:"RESTART" envDefault:"5s" max:"1h" reload:"yes" doc:"how long a restart keeps the sidecar away: clients released while it drains are told to come back after it, so that none meets a proxy's 502; 0 where another replica takes them"`
	Writers        string `env:"WRITERS" envDefault:"auto" oneof:"auto goroutine" reload:"restart" doc:"what writes to clients, and waits for the WebSockets of upstreams. auto: as few goroutines as the system and the build of Go allow; goroutine: one for each client, which costs some 26 KiB of memory each, over TLS 40, and one for each stream, some 12 KiB, and otherwise changes nothing, for when the other ways are suspected of a fault; see [deliver](../proxy/deliver/README.md)"`
	History        string `env:"HISTORY" envDefault:"memory" reload:"restart" doc:"where the events of streams are kept: memory; file:DIR, a folder of this process's own, with which a restart loses nothing; or a Redis that several replicas share: redis://[USER:PASSWORD@]HOST[:PORT][/DB], redis+sentinel://HOST,HOST/MASTER, redis+cluster://HOST,HOST, or with rediss for TLS; see [history](../proxy/history/README.md)"`
	HistorySync    pace   `env:"HISTORY_SYNC" envDefault:"1s" reload:"restart" doc:"how often the folder's files are synced to the disk, at most 1h: what a power failure may take; 0 with each event; off never. A killed process loses nothing whatever it is"`
	HistoryPrefix  string `env:"HISTORY_PREFIX" envDefault:"sidestream" reload:"restart" doc:"what the keys in Redis begin with; sidecars with the same one share their streams, and must have the same routes"`
	HistoryTTL     span   `env:"HISTORY_TTL" envDefault:"1h" min:"1s" max:"8760h" none:"no" reload:"restart" doc:"how long the events of a stream without clients are kept"`
	Peer           string `env:"PEER" reload:"restart" doc:"this replica's address for the others that share a history in Redis: http:// or https://, host and port, such as http://10.1.2.3:9092. Then messages and tunnels reach the replica that they are for; see [replicas](../proxy/history/README.md#what-replicas-ask-each-other)"`
	PeerListen     string `env:"PEER_LISTEN" show:"the port of SSE_PEER" reload:"restart" doc:"address that other replicas are answered on; it is for no one else"`
	PeerSecret     list   `env:"PEER_SECRET" reload:"restart" doc:"what replicas know each other by, at least 16 bytes and the same everywhere. Several, comma-separated, for changing it: the first one signs, all are accepted"`
	MaxPerIP       count  `env:"MAX_CLIENTS_PER_IP" max:"1000000000" reload:"yes" doc:"SSE clients at once of one address, or of one /64 of IPv6; over it they are told to come back. 0 means no limit. Behind a proxy it needs SSE_TRUSTED_PROXIES"`
	MaxReplay      rate   `env:"MAX_REPLAY" envDefault:"64MiB/s" min:"1KiB/s" max:"64GiB/s" reload:"yes" doc:"what all SSE clients together are sent a second of what was there before they came: when many return at once, each waits its turn, with heartbeats, and those who are there do not wait for them. REPLAY_EVENTS has to reach for as long. 0 means no limit"`
	TrustedProxies list   `env:"TRUSTED_PROXIES" reload:"yes" doc:"addresses and networks (CIDR), comma-separated, of the proxies in front, whose X-Forwarded-For is believed; unix stands for whoever connects to the Unix socket of SSE_LISTEN. The rightmost address in the header that is none of them is the client's"`
	TicketKey      list   `env:"TICKET_KEY" reload:"yes" doc:"turns on POST /_sidestream/ticket: keys of 64 hex digits, comma-separated, of which the first seals tickets and each opens them; the same for all replicas. See [access](../proxy/access/README.md#tickets)"`
	TicketTTL      span   `env:"TICKET_TTL" envDefault:"60s" min:"1s" max:"1h" none:"no" reload:"yes" doc:"how long a ticket is good for whoever has it"`
	TicketReuse    span   `env:"TICKET_REUSE" envDefault:"12h" min:"1s" max:"24h" none:"no" reload:"yes" doc:"how long a ticket is good for a client that comes back with a last id"`
	Doctor         toggle `env:"DOCTOR" envDefault:"on" reload:"yes" doc:"what [doctor](../proxy/doctor/README.md) asks answers on the public port, with its page, /_sidestream/doctor: whoever may reach the port may ask it, within bounds; it shows what arrives of the asker's own request. off: neither is there"`
	MigrationDays  count  `env:"MIGRATION_DAYS" envDefault:"7" min:"1" max:"3650" none:"no" reload:"yes" doc:"days without an old client after which a path counts as safe to switch off; see [migration](../proxy/migrate/README.md)"`
	Sunset         list   `env:"SUNSET" reload:"yes" doc:"old paths and the day from which they are gone, comma-separated: /ws=2027-03-01. Until then old clients are answered with Deprecation and Sunset (RFC 9745, RFC 8594), from then on with 410 and a line that names the route. A path may have {name} for segments that differ"`
	Learn          toggle `env:"LEARN" envDefault:"false" reload:"restart" doc:"true: what is passed through to SSE_UPSTREAM is watched, and /api/learn on the admin port has the routes that could take its place; see [learn](../proxy/migrate/learn/README.md). Nothing secret is shown, and what is kept is bounded"`
	LogLevel       string `env:"LOG_LEVEL" envDefault:"info" oneof:"debug info warn error" reload:"yes" doc:"debug, info, warn or error"`
	LogFormat      string `env:"LOG_FORMAT" envDefault:"auto" oneof:"auto text json" reload:"restart" doc:"auto: coloured text on a terminal, JSON otherwise; text; json"`
}

type settings struct {
	Path         string `env:"PATH" show:"required" doc:"a net/http pattern without method or host, such as /prices or /jobs/{id}/progress; not under /_sidestream/"`
	From         string `env:"FROM" show:"required" doc:"ws:// wss:// subscribes, http:// https:// polls; a template. routes:a,b [merges](#merged-routes) the streams of the routes a and b. redis:// and rediss://, at the addresses of SSE_HISTORY and with ?channel=NAME, ?pattern=PATTERN or ?stream=KEY, read a [Redis](../translate/README.md#redis), with placeholders in these values only. ws+unix:///run/app.sock:/path and http+unix:///run/app.sock:/path are on a Unix socket, with placeholders after the second colon only; see [private upstreams](#private-upstreams)"`
	UpstreamCA   string `env:"UPSTREAM_CA" global:"yes" doc:"path of a PEM file: the authorities that upstreams' certificates are verified by, in place of the system's. Reread, as the next two, when it changes. See [private upstreams](#private-upstreams)"`
	UpstreamCert string `env:"UPSTREAM_CERT" global:"yes" doc:"path of the PEM certificate chain that is shown to upstreams that ask for one"`
	UpstreamKey  string `env:"UPSTREAM_KEY" global:"yes" doc:"path of its PEM private key, which is not encrypted"`
	UpstreamName string `env:"UPSTREAM_NAME" show:"the host" global:"yes" doc:"name that is asked for (SNI) and that the upstream's certificate has to be for, where it is not the host of FROM or SSE_UPSTREAM"`
	Headers      string `env:"HEADERS" doc:"headers sent upstream, one Name: value per line; templates. Origin is the upstream's own unless given or forwarded"`
	Forward      list   `env:"FORWARD" doc:"client request headers copied upstream, comma-separated"`
	Cookies      toggle `env:"COOKIES" envDefault:"on" doc:"cookies that the upstream's answers set are sent with the next requests of the same stream, and with no others; off: they are forgotten"`
	Protocol     string `env:"PROTOCOL" envDefault:"raw" doc:"[dialect](../translate/dialect/README.md) spoken inside the WebSocket"`
	Face         string `env:"FACE" envDefault:"sse" oneof:"sse graphql-sse" kind:"ws" doc:"graphql-sse, with PROTOCOL=graphql-transport-ws or graphql-ws: clients bring the subscription themselves, as [GraphQL over SSE](../proxy/web/README.md#graphql-over-sse) has it, and read next and complete. SUBSCRIBE is not set then"`
	Documents    string `env:"DOCUMENTS" kind:"ws" doc:"with FACE=graphql-sse: path of a JSON file with the documents that clients may have run: id and text, as Relay and graphql-codegen write it, or Apollo's manifest of persisted queries. Looked at again as the files of _FILE variables are. Unset: any subscription"`
	Connect      string `env:"CONNECT" kind:"ws" doc:"the dialect's connection payload; a template"`
	Subscribe    string `env:"SUBSCRIBE" kind:"ws" doc:"what to subscribe to, in the dialect's own terms, one per line; templates"`
	Subprotocol  list   `env:"SUBPROTOCOL" show:"dialect's" kind:"ws" doc:"Sec-WebSocket-Protocol to offer, comma-separated"`
	Hello        string `env:"HELLO" kind:"ws" doc:"opening script, one step per line, run again on every connection: > frame sends (a template); = jq sends each output of a program over null, which sees $state; @ [METHOD ]URL[ BODY] makes an HTTP request (a template), whose JSON answer is the input of the next = and $answer after it, and @ Name: value is a header of the request in the next line, see [requests](../translate/README.md#requests-in-the-opening); < jq waits for a message for which the program is true (10 s, then reconnect); ! jq means refused when true and ~ jq means reconnect when true, from there until the connection ends; a line without a mark is sent"`
	Reply        string `env:"REPLY" kind:"ws" doc:"jq over each incoming message; each output is sent back as a frame"`
	ReplyMax     count  `env:"REPLY_MAX" envDefault:"100" max:"100000" kind:"ws" doc:"frames of REPLY that one stream sends in a second; over it the connection ends, with a warning, and a new one is made: a REPLY that answers too much would flood the service. 0 means no limit"`
	Ping         string `env:"PING" kind:"ws" doc:"application-level keepalive frame; a template"`
	PingEvery    rhythm `env:"PING_EVERY" envDefault:"30s" kind:"ws" doc:"how often PING is sent: a duration from 10ms to 24h, or jq over null that yields milliseconds, such as $state.interval; nothing is sent until it yields a number. 0 means never"`
	Pong         string `env:"PONG" kind:"ws" doc:"jq: a message for which it is true acknowledges the last PING and is not emitted; when a PING is due and the one before was not acknowledged: reconnect"`
	State        string `env:"STATE" kind:"ws" doc:"jq over each incoming message, before everything else; each object it yields is merged into $state, a null value deletes the name. Kept across reconnects, also as {state.NAME} in templates; 64 names, 4 KiB a value"`
	Resumed      string `env:"RESUMED" kind:"ws" doc:"jq over each message until HELLO is complete, with $state as it was before the message: true means that nothing was lost since the last connection, so no gap is reported"`
	Ticket       string `env:"TICKET" kind:"ws" doc:"raw: an HTTP request before each dial, [METHOD ]URL (POST unless given; a template), with HEADERS and FORWARD; DIAL reads its JSON answer"`
	Dial         string `env:"DIAL" kind:"ws" doc:"raw: jq over the answer to TICKET (null without one), with $state; yields the address to dial instead of FROM; null or nothing: FROM; false: refused (401). HEADERS and FORWARD are not sent to a host other than FROM's"`
	Close        string `env:"CLOSE" kind:"ws" doc:"what close codes mean: code=meaning or from-to=meaning, comma-separated; a meaning is retry, refused (403) or refused:STATUS, finished, or new (forget $state, then retry)"`
	Status       string `env:"STATUS" doc:"what HTTP statuses mean, of dials, polls and streams: status=meaning, from-to=meaning or 5xx=meaning, comma-separated; meanings are those of CLOSE, but refused is the status itself if it is 4xx, else 403, and new forgets the cursor or $state"`
	RefuseAfter  span   `env:"REFUSE_AFTER" envDefault:"30s" max:"24h" global:"yes" doc:"how long a stream that was connected before retries 401, 403, 404 and the like, and refusals by the dialect while a connection opens, before its clients are refused; 0 at once, for routes that carry credentials. What STATUS, CLOSE, REFUSED or ! calls refused does not wait"`
	Separator    string `env:"SEPARATOR" kind:"ws" doc:"raw: what ends a record where one message holds several, such as \\n or \\x1e; each record is a message of its own, and the separator is appended to what is sent"`
	Idle         span   `env:"IDLE" envDefault:"60s" min:"10ms" max:"24h" kind:"ws stream" global:"yes" doc:"reconnect when nothing was received for so long, pongs included (pings of WebSockets and to a Redis are sent at half of it)"`
	Every        span   `env:"EVERY" envDefault:"2s" min:"10ms" max:"24h" kind:"poll" global:"yes" doc:"poll interval, start to start; 0: at once after each answer, at most twice a second when nothing new came"`
	Mode         string `env:"MODE" show:"changes, or every with CURSOR" oneof:"changes every items patch stream" kind:"poll" doc:"changes emits when the translated result differs from the last one; every always; items emits the new elements of a list (SELECT defaults to .[], the first answer is history); patch emits a snapshot event, then RFC 6902 patch events; stream does not poll: it reads Server-Sent Events, JSON or lines from an answer that never ends"`
	Cursor       string `env:"CURSOR" kind:"poll" doc:"jq over the answer; its value is {stream.cursor} in the next request; null or nothing keeps the old one. A smaller whole number than before starts over, with a gap"`
	First        string `env:"FIRST" show:"FROM" kind:"poll" doc:"address while there is no cursor; a template"`
	Reset        string `env:"RESET" show:"status==410" kind:"poll" doc:"jq over any answer, with MODE=stream also over each record: true means that the cursor is too old; it is forgotten, a gap is reported, and FIRST is next. Evaluated over null too, with $status null, when a request fails or a connection is lost: status==null is for services whose numbers start again"`
	Refused      string `env:"REFUSED" kind:"poll" doc:"jq over any answer, with MODE=stream also over each record: true (403) or a status 400 to 499 means that the upstream rejects the request"`
	Next         string `env:"NEXT" show:"Link: rel=next" kind:"poll" doc:"jq over a page: where the next one is. A string is an address, relative to this one's; an object is values to set in its query; true is FROM with the new cursor; anything else: there is none"`
	Pages        count  `env:"PAGES" show:"1, or 20 with NEXT" max:"1000" kind:"poll" doc:"how many pages of one answer are followed at most"`
	Interval     string `env:"INTERVAL" kind:"poll" doc:"jq over the answer: seconds until the next poll; can only lengthen EVERY, as X-Poll-Interval and Retry-After do"`
	Format       string `env:"FORMAT" show:"by type, then first bytes" oneof:"sse lines json" kind:"stream" doc:"what MODE=stream reads: sse, lines, or json (values one after another, with any white space; of a list that begins with an object, the values in it)"`
	Method       string `env:"METHOD" show:"GET, or POST with a body" kind:"poll" doc:"method of the poll request"`
	Body         string `env:"BODY" kind:"poll" doc:"body of the poll request; a template"`
	Timeout      span   `env:"TIMEOUT" show:"10s, or 6m with EVERY=0" min:"10ms" max:"24h" kind:"poll" global:"yes" doc:"how long a poll request may take, or with EVERY=0 how long it may be silent; 0 means for ever"`
	Select       string `env:"SELECT" show:"." doc:"jq: zero or more items from each message (filter, split)"`
	Event        string `env:"EVENT" show:"dialect's" doc:"jq on the item: event name; null or empty means none"`
	Data         string `env:"DATA" show:"." doc:"jq on the item: data. Strings are sent raw; values that the program made, as compact JSON; values of the message, as they are written there. With none of SELECT, EVENT, DATA and ID set the bytes pass through unparsed"`
	ID           string `env:"ID" show:"sidecar's" doc:"jq on the item: event id"`
	Key          string `env:"KEY" doc:"jq on the item: the key by which a newer event replaces an older one. With START=latest a client begins with the newest event of each key, and one whose place is no longer in the replay buffer gets those after its gap. With MODE=patch: jq on an element of a list of objects, what identifies it"`
	Done         string `env:"DONE" doc:"jq on the item: true completes the stream after it"`
	Decode       string `env:"DECODE" doc:"what messages are packed in, undone before jq in this order: gzip, deflate (raw), zlib, msgpack, cbor, comma-separated, such as zlib,msgpack. Binary messages of raw, the payloads of mqtt, stomp and phoenix, messages of Redis channels and bodies of polls; see [packed messages](../translate/README.md#packed-messages)"`
	Binary       string `env:"BINARY" envDefault:"base64" oneof:"base64 text drop" kind:"ws" doc:"what binary messages, and at a Redis what is not UTF-8, become without DECODE: base64, text, or drop"`
	Start        start  `env:"START" show:"live for ws and Redis, latest for polls, its parts' for merged routes" global:"yes" doc:"where a client without Last-Event-ID begins: live, latest, all, or a number of events. The client that opened the stream gets everything"`
	Heartbeat    span   `env:"HEARTBEAT" envDefault:"15s" min:"10ms" max:"24h" global:"yes" doc:"a heartbeat is sent when nothing else was for so long; 0 means none"`
	Coalesce     span   `env:"COALESCE" envDefault:"0" max:"10s" global:"yes" doc:"minimum time between two writes to one client; what arrives in between goes out in one write. 0: at once"`
	Compress     string `env:"COMPRESS" envDefault:"off" oneof:"off gzip" global:"yes" doc:"gzip: clients that accept it get events compressed, once for all of them; see [compression](../proxy/deliver/README.md#compression) and when not"`
	Retry        span   `env:"RETRY" envDefault:"3s" min:"1ms" max:"24h" none:"no" global:"yes" doc:"retry hint; each client gets a random value in [RETRY, 2×RETRY)"`
	ReplayEvents count  `env:"REPLAY_EVENTS" envDefault:"1024" min:"1" max:"16777216" none:"no" global:"yes" doc:"size of the replay buffer in events"`
	ReplayBytes  size   `env:"REPLAY_BYTES" envDefault:"4MiB" min:"1" max:"1GiB" none:"no" global:"yes" doc:"size of the replay buffer in bytes; the newest event is never evicted"`
	ReplayAge    span   `env:"REPLAY_AGE" max:"8760h" global:"yes" doc:"maximum age of the events in the replay buffer; 0 means any"`
	Linger       span   `env:"LINGER" envDefault:"30s" max:"8760h" global:"yes" doc:"how long a stream outlives its last client; must exceed 2×RETRY"`
	Eager        toggle `env:"EAGER" envDefault:"false" doc:"start at boot and stay without clients (for routes without client placeholders)"`
	MaxAge       span   `env:"MAX_AGE" min:"1s" max:"8760h" global:"yes" doc:"maximum stream age, counted from when its upstream connected: past it, no new clients are accepted, those it has are told to come back, spread over 10 s, and it ends; they authenticate again. For routes that carry credentials"`
	MaxMessage   size   `env:"MAX_MESSAGE" envDefault:"1MiB" min:"1" max:"1GiB" none:"no" global:"yes" doc:"largest upstream message or body"`
	History      string `env:"HISTORY" show:"SSE_HISTORY" oneof:"memory" doc:"memory: the events of this route are not kept over restarts"`
	MaxClients   count  `env:"MAX_CLIENTS" max:"1000000000" doc:"SSE clients of the route at once; 0 means no limit of its own"`
	MaxPerStream count  `env:"MAX_CLIENTS_PER_STREAM" max:"1000000000" doc:"SSE clients at once of one stream: on a route that forwards who a client is, those of one user; over it they are told to come back. 0 means no limit"`
	MaxStreams   count  `env:"MAX_STREAMS" max:"1000000000" doc:"upstream connections of the route at once; 0 means no limit of its own"`
	Auth         list   `env:"AUTH" global:"yes" doc:"who may read the route, and send to it, before anything is dialled: forward asks AUTH_URL, jwt verifies a token; both, comma-separated, have to admit. off: whoever asks. See [access](../proxy/access/README.md)"`
	AuthURL      string `env:"AUTH_URL" global:"yes" doc:"asked with AUTH=forward: a GET with the client's AUTH_HEADERS and X-Forwarded-Method, -Uri, -Host, -Proto, -For; 2xx admits, 401 and 403 are the client's status, a redirect is 401; else the client is told to come back"`
	AuthHeaders  list   `env:"AUTH_HEADERS" envDefault:"Cookie, Authorization" global:"yes" doc:"headers of the client that AUTH_URL is asked with, comma-separated; clients that differ in them are never admitted by the same answer"`
	AuthClaims   list   `env:"AUTH_CLAIMS" global:"yes" doc:"names of headers of AUTH_URL's answer, or of claims of the JWT, comma-separated, that templates may use as {auth.NAME}; they are part of the identity where used"`
	JWTKeys      string `env:"JWT_KEYS" global:"yes" doc:"what JWTs are verified with: the address of a JWKS, the path of a PEM file, or secret: and the secret (several, one a line). The key decides the algorithm"`
	JWTIssuer    string `env:"JWT_ISSUER" global:"yes" doc:"the iss that a JWT must have"`
	JWTAudience  list   `env:"JWT_AUDIENCE" global:"yes" doc:"values, comma-separated, one of which must be in a JWT's aud"`
	JWTFrom      list   `env:"JWT_FROM" envDefault:"header" global:"yes" doc:"where a JWT is, the first that there is: header (Authorization: Bearer), cookie:NAME, query:NAME, comma-separated"`
	Revalidate   span   `env:"REVALIDATE" min:"10ms" max:"24h" global:"yes" doc:"how long an answer of AUTH_URL counts: clients are asked for again within it, and refused after a 401 or 403. none: it counts for the client that asks, and nothing is asked again. A JWT counts until its exp"`
	Send         toggle `env:"SEND" envDefault:"false" doc:"POST to PATH sends the body upstream as one message; WebSocket routes only"`
	Replaces     list   `env:"REPLACES" show:"FROM's path, where FROM is at SSE_UPSTREAM" doc:"paths that old clients use and the route is to replace, comma-separated, with {name} for segments that differ: /ws,/api/prices. Their clients are counted as the route's old ones; off: none. See [migration](../proxy/migrate/README.md)"`
	Parity       toggle `env:"PARITY" envDefault:"false" doc:"true: what old clients on the route's old paths receive through the pass-through is compared with what the route's streams emit; see [migration](../proxy/migrate/README.md#parity)"`
	Keep         span   `env:"KEEP" envDefault:"5m" min:"1s" max:"24h" none:"no" kind:"stream" doc:"with SCOPE=run: how long a run that has ended is kept for clients that come back for the rest of it"`
	MaxRuns      count  `env:"MAX_RUNS" envDefault:"100" max:"1000000" kind:"stream" doc:"with SCOPE=run: runs that one client, as AUTH or its credentials tell, may have at once; 429 over it. 0 means no limit. MAX_STREAMS bounds those of all"`
	Scope        string `env:"SCOPE" show:"request, or run with METHOD=POST, MODE=stream and no BODY" oneof:"request session run" doc:"run: a POST of a client's starts an upstream request of its own, with its body, and is answered with the stream; GET with ?run= resumes it, DELETE stops it, see [runs](../proxy/web/README.md#runs). session: each ?session= value, 16 to 128 random characters of A-Z a-z 0-9 _ - chosen by the page, has an upstream connection of its own; START is then all unless set"`
}

// field is one variable as the tags above describe it.
type field struct {
	goName       string // what the library calls it
	env          string
	value, shown string // default
	doc          string
	kind         string
	oneof        []string
	min, max     string
	global       bool
	noNone       bool
	reload       string // reloadYes, reloadRoutes or reloadRestart; "" of a route's
}

// What a reload does about a global variable.
const (
	reloadYes     = "yes"
	reloadRoutes  = "routes"
	reloadRestart = "restart"
)

var reloadShown = map[string]string{reloadYes: "at once", reloadRoutes: "all routes", reloadRestart: "restart"}

var (
	globalFields = fieldsOf[globals]()
	routeFields  = fieldsOf[settings]()
)

func fieldsOf[T any]() []field {
	var fields []field
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		fields = append(fields, field{
			goName: f.Name, env: f.Tag.Get("env"), value: f.Tag.Get("envDefault"), shown: f.Tag.Get("show"),
			doc: f.Tag.Get("doc"), kind: f.Tag.Get("kind"), oneof: strings.Fields(f.Tag.Get("oneof")),
			min: f.Tag.Get("min"), max: f.Tag.Get("max"), global: f.Tag.Get("global") == "yes",
			noNone: f.Tag.Get("none") == "no", reload: f.Tag.Get("reload"),
		})
	}
	return fields
}

// Variable is one row of the environment table.
type Variable struct {
	Name    string // SSE_LISTEN; of a route's setting the last part, HEARTBEAT
	Default string // none, required, a value, or in words
	Meaning string
	Reload  string // what a reload does about a global one: "at once", "all routes" or "restart"
	Route   bool   // may be given as SSE_ROUTE_<NAME>_<Name>
	Global  bool   // may be given as Name, or for a route's setting as SSE_<Name>
}

// Variables lists every variable that this version takes, global ones first, in the order of the documentation.
// SSE_MAX_CLIENTS and MAX_CLIENTS (and so MAX_STREAMS and HISTORY) are two variables, not one with a global default.
func Variables() []Variable {
	var vs []Variable
	for _, f := range globalFields {
		vs = append(vs, Variable{Name: prefix + f.env, Default: f.shownDefault(), Meaning: f.doc, Reload: reloadShown[f.reload], Global: true})
	}
	vs = append(vs, Variable{Name: prefix + secretPrefix + "NAME", Default: "none", Reload: reloadShown[reloadYes], Global: true,
		Meaning: "a secret by a name of yours, for signatures and tokens: SSE_SECRET_OKX is $secret.okx in the jq of what is sent upstream, and {secret.OKX} in templates. It is shown nowhere; see [secrets](#secrets)"})
	for _, f := range routeFields {
		vs = append(vs, Variable{Name: f.env, Default: f.shownDefault(), Meaning: f.doc, Route: true, Global: f.global})
	}
	return vs
}

func (f field) shownDefault() string {
	switch {
	case f.shown != "":
		return f.shown
	case f.value != "":
		return f.value
	}
	return "none"
}
