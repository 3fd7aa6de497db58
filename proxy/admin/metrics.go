package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidestream/proxy"
	"sidestream/proxy/access"
	"sidestream/proxy/deliver"
	"sidestream/proxy/history"
	"sidestream/proxy/peer"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
)

// collector reads the counters when it is asked; nothing is registered or updated on the way of an event.
type collector struct {
	p       *proxy.Proxy
	version string
	lines   *Lines // nil: not shown
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func define(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("sidestream_"+name, help, labels, nil), kind}
}

var (
	build      = define(gauge, "build_info", "Always 1; the version is in the label.", "version")
	draining   = define(gauge, "draining", "1 while clients are being released.")
	clients    = define(gauge, "clients", "Clients connected now, by transport: sse, or websocket where the old protocol is passed through on the route's path.", "route", "transport")
	byWriter   = define(gauge, "clients_by_writer", "SSE clients connected now, pages with tunnels included, by what writes to them: a goroutine of their own, a shard, or their connection of HTTP/2.", "writer")
	overTwo    = define(gauge, "http2_connections", "Connections of HTTP/2 now, but for those whose every client has a goroutine of its own.")
	parkedTwo  = define(gauge, "http2_connections_parked", "Those that have event streams alone and nothing else to do, and so no goroutine: 4 KiB each instead of 20.")
	logLost    = define(counter, "log_lines_lost_total", "Log lines lost because their reader was stuck or gone.")
	websockets = define(gauge, "passthrough_websockets", "Connections passed through as WebSockets now, on any path.")
	heldBack   = define(counter, "held_back_total", "Pages that have found out that something between them and the sidecar holds events back, and go on with long polls.", "route")
	pageHeld   = define(counter, "tunnel_held_back_total", "The same, of pages with tunnels.")
	streams    = define(gauge, "streams", "Streams now, lingering ones included.", "route")
	up         = define(gauge, "upstream_up", "Share of the route's streams whose upstream is connected: 1 all, 0 none. Also 1 while there is no stream.", "route")
	connects   = define(counter, "upstream_connects_total", "Connections to the upstream that were established.", "route")
	moves      = define(counter, "upstream_moves_total", "Connections that took the place of one whose server had named another address before it went away.", "route")
	failures   = define(counter, "upstream_failures_total", "Connections to the upstream that failed or were lost, each followed by a reconnect unless it was refused.", "route")
	answers    = define(counter, "upstream_answers_total", "Openings of connections to the upstream, and requests of polls, that succeeded.", "route")
	answerTime = define(counter, "upstream_answer_seconds_total", "Time that they took; that of long polls is mostly waiting.", "route")
	refused    = define(counter, "upstream_refused_total", "Streams that the upstream refused.", "route")
	received   = define(counter, "upstream_messages_total", "WebSocket messages and poll bodies received.", "route")
	oversize   = define(counter, "oversize_total", "Messages and bodies larger than MAX_MESSAGE.", "route")
	polls      = define(counter, "polls_total", "Polls, by outcome.", "route", "outcome")
	undecoded  = define(counter, "decode_failures_total", "Messages that were dropped, since they are not packed in what DECODE names, or are cut short.", "route")
	jq         = define(counter, "jq_failures_total", "Messages for which a jq program failed (error) or took too long (timeout).", "route", "reason")
	events     = define(counter, "events_total", "Events appended to the replay rings, gaps included.", "route")
	bytes      = define(counter, "bytes_total", "Encoded bytes of the events appended to the replay rings.", "route")
	gaps       = define(counter, "gaps_total", "Gaps reported, by reason.", "route", "reason")
	delivered  = define(counter, "delivered_events_total", "Events written to clients.", "route")
	written    = define(counter, "delivered_bytes_total", "Bytes of events written to clients.", "route")
	replayed   = define(counter, "replayed_events_total", "Events that were replayed: written to clients that connected after them.", "route")
	sent       = define(counter, "sent_messages_total", "Clients' messages written to the upstream (SEND).", "route")
	unsent     = define(counter, "send_failures_total", "Clients' messages that could not be written to the upstream (SEND).", "route")
	rejected   = define(counter, "rejected_total", "Requests for an event stream that were turned away, by reason.", "reason")
	tunnels    = define(gauge, "tunnels", "WebSockets of pages that travel over events and POSTs now (SSE_TUNNEL).")
	pages      = define(gauge, "tunnel_pages", "Pages that have or had tunnels, lingering ones included.")
	pageEvents = define(gauge, "tunnel_clients", "Event streams of pages with tunnels, connected now.")
	opened     = define(counter, "tunnels_opened_total", "Tunnels whose upstream accepted the upgrade.")
	unopened   = define(counter, "tunnel_failures_total", "Tunnels whose upstream refused the upgrade, or did not answer.")
	expired    = define(counter, "tunnel_pages_expired_total", "Pages that did not return within LINGER.")
	carried    = define(counter, "tunnel_messages_total", "Messages through tunnels, by direction: up to the upstream, down to the page.", "direction")
	weight     = define(counter, "tunnel_bytes_total", "Bytes of the messages through tunnels, by direction.", "direction")
	bodies     = define(counter, "tunnel_streams_total", "POSTs of pages whose body goes on, so that what is sent later costs no request of its own.")
	pageGaps   = define(counter, "tunnel_gaps_total", "Gaps reported to pages, at which their tunnels fail.", "reason")
	appends    = define(counter, "history_appends_total", "Batches of events written to the history.")
	appended   = define(counter, "history_bytes_total", "Bytes written to the history, by cause: event, or tidy for what was copied to give room back.", "cause")
	unappended = define(counter, "history_failures_total", "Batches that could not be written to the history.")
	damage     = define(counter, "history_damaged_total", "Files and streams of the history that were found damaged.")
	historyUp  = define(gauge, "history_up", "1 while events can be written to the history, 0 when the last batch could not be.")
	historyAll = define(gauge, "history_streams", "Streams whose events are kept: in a folder all, in Redis those that are open here.")
	historyLen = define(gauge, "history_size_bytes", "Size of the history's files, 0 in Redis.")
	leading    = define(gauge, "history_leading_streams", "Streams of the history whose source runs in this replica.")
	lag        = define(gauge, "history_lag_seconds", "Longest time within the last minute or two from an event's append, by the clock of the replica that appended it, until this replica had it.")
	unread     = define(gauge, "history_unread_streams", "Streams that have grown in Redis and are being read.")
	retries    = define(counter, "history_retries_total", "Appends that had to be repeated, since Redis had another last event than expected.")
	reseeds    = define(counter, "history_reseeds_total", "Streams that Redis had lost events of, and that were written again from memory.")
	takeovers  = define(counter, "history_takeovers_total", "Streams whose source this replica has begun to run, where it had run before.")
	forwarded  = define(counter, "peer_forwarded_total", "Requests of clients that another replica has answered (SSE_PEER), by kind: tunnel, or send for messages.", "kind")
	served     = define(counter, "peer_served_total", "Requests of other replicas' clients that were answered here, by kind.", "kind")
	unserved   = define(counter, "peer_failures_total", "Requests that another replica should have answered, and did not, by reason: it is unknown (gone), nothing listens (refused), it has another secret (denied), it is unreachable, there is no room (full), its answer was late, or lost.", "reason")
	turnedAway = define(counter, "peer_refused_total", "Requests to the listener for replicas that were refused, by what was wrong with them.", "reason")
	relayed    = define(gauge, "peer_streams", "Event streams of clients that are connected here and whose page another replica has, now.")
	questioned = define(counter, "auth_questions_total", "Questions that AUTH_URL was asked.", "route")
	decided    = define(counter, "auth_total", "What AUTH has found out about clients, by result: admitted, denied, or unavailable where AUTH_URL or the keys did not answer. Those whose answer was known still are not counted.", "route", "result")
	fetched    = define(counter, "jwt_key_fetches_total", "Fetches of the keys of JWTs.", "route")
	revoked    = define(counter, "revoked_total", "Clients that were refused after they had been admitted: by POST /api/revoke, or when AUTH_URL was asked again.", "route")
	reloaded   = define(counter, "reloads_total", "Reloads of the configuration, by result: ok, unchanged where nothing differed, failed where something was wrong and nothing has changed.", "result")
	reloadGood = define(gauge, "config_last_reload_successful", "1 when the last reload of the configuration, or the start, had nothing wrong.")
	reloadAt   = define(gauge, "config_last_reload_success_timestamp_seconds", "When the configuration was read last with success, Unix time.")
	movers     = define(gauge, "migration_clients", "Clients by path and transport now: websocket and poll are passed through, sse and tunnel are not. Paths that no route replaces have {id} for what names one thing, and are bounded in number.", "path", "transport")
	moved      = define(counter, "migration_clients_total", "Clients by path and transport that have connected, or begun to poll.", "path", "transport")
	lastSeen   = define(gauge, "migration_last_seen_seconds", "When a client was on the path over the transport last, Unix time; now while one is.", "path", "transport")
	parity     = define(counter, "parity_total", "Messages of old clients compared with the route's streams (PARITY), by result: equal, missing where only the old client had it, extra where only the stream had, changed, or reordered.", "route", "result")
	gone       = define(counter, "disconnects_total", "SSE clients that have disconnected, by reason.", "reason")
)

// Describe is part of [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect is part of [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	send := func(m metric, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
	}
	send(build, 1, c.version)
	if c.lines != nil {
		send(logLost, float64(c.lines.Lost()))
	}
	send(websockets, float64(c.p.WebSockets()))
	isDraining := 0.0
	if c.p.Draining() {
		isDraining = 1
	}
	send(draining, isDraining)
	reloads(send, &c.p.Reloads)
	for i, n := range c.p.ClientsByWriter() {
		send(byWriter, float64(n), deliver.Writers[i])
	}
	open, parked := c.p.HTTP2Connections()
	send(overTwo, float64(open))
	send(parkedTwo, float64(parked))
	for i, reason := range proxy.Rejections {
		send(rejected, float64(c.p.Rejected[i].Load()), reason)
	}
	for _, rt := range c.p.Served() {
		route(send, rt)
		if s := rt.AuthStats(); s != nil {
			auth(send, rt.Name, s)
		}
	}
	if c.p.History != nil {
		kept(send, c.p.History.Report())
	}
	if c.p.Tunnel != nil {
		tunnel(send, c.p.Tunnel)
	}
	if c.p.Peers != nil {
		peers(send, c.p)
	}
	for _, m := range c.p.MigrationCounts() {
		send(movers, float64(m.Clients), m.Path, string(m.Transport))
		send(moved, float64(m.Total), m.Path, string(m.Transport))
		if !m.Last.IsZero() {
			send(lastSeen, float64(m.Last.Unix()), m.Path, string(m.Transport))
		}
	}
	left := c.p.Left()
	for i, reason := range deliver.Reasons {
		send(gone, float64(left[i]), reason)
	}
}

func route(send func(metric, float64, ...string), rt *proxy.Route) {
	one := func(m metric, value int64, labels ...string) {
		send(m, float64(value), append([]string{rt.Name}, labels...)...)
	}
	h, source, ring := rt.Streams.Health(), rt.Upstream.Stats, rt.Streams.Stats
	one(clients, rt.Clients.Clients.Load(), "sse")
	one(clients, rt.WebSockets.Load(), "websocket")
	one(heldBack, rt.HeldBack.Load())
	one(streams, int64(h.Streams))
	share := 1.0
	if h.Streams > 0 {
		share = float64(h.Connected) / float64(h.Streams)
	}
	send(up, share, rt.Name)
	one(connects, source.Connects.Load())
	one(moves, source.Moves.Load())
	one(failures, h.Failures)
	one(answers, source.Answers.Load())
	send(answerTime, time.Duration(source.AnswerTime.Load()).Seconds(), rt.Name)
	one(refused, ring.Refused.Load())
	one(received, source.Received.Load())
	one(oversize, source.Oversize.Load())
	one(undecoded, source.Undecoded.Load())
	one(jq, source.JQFailed.Load(), "error")
	one(jq, source.JQTimeouts.Load(), "timeout")
	if rt.Upstream.Polls() {
		for i, outcome := range upstream.PollOutcomes {
			one(polls, source.Polls[i].Load(), outcome)
		}
	}
	one(events, ring.Events.Load())
	one(bytes, ring.Bytes.Load())
	for i, reason := range stream.GapReasons {
		one(gaps, ring.Gaps[i].Load(), reason)
	}
	one(delivered, rt.Clients.Events.Load())
	one(written, rt.Clients.Bytes.Load())
	one(replayed, rt.Clients.Replayed.Load())
	if rt.Parity {
		for result, n := range rt.Compared.Counts() {
			one(parity, n, result)
		}
	}
	if rt.Send {
		one(sent, ring.Sent.Load())
		one(unsent, ring.SendFailed.Load())
	}
}

func kept(send func(metric, float64, ...string), r history.Report) {
	up := 1.0
	if !r.Up {
		up = 0
	}
	send(appends, float64(r.Appends))
	send(appended, float64(r.Bytes), "event")
	send(appended, float64(r.Copied), "tidy")
	send(unappended, float64(r.Failures))
	send(damage, float64(r.Damaged))
	send(historyUp, up)
	send(historyAll, float64(r.Streams))
	send(historyLen, float64(r.Size))
	send(leading, float64(r.Leading))
	send(lag, r.Lag.Seconds())
	send(unread, float64(r.Behind))
	send(retries, float64(r.Retries))
	send(reseeds, float64(r.Reseeds))
	send(takeovers, float64(r.Takeovers))
}

func peers(send func(metric, float64, ...string), p *proxy.Proxy) {
	st := &p.Peers.Stats
	for i, kind := range peer.Kinds {
		send(forwarded, float64(st.Forwarded[i].Load()), kind)
		send(served, float64(st.Served[i].Load()), kind)
	}
	for i, reason := range peer.Reasons {
		send(unserved, float64(st.Failed[i].Load()), reason)
	}
	for i, reason := range peer.Refusals {
		send(turnedAway, float64(st.Refused[i].Load()), reason)
	}
	send(relayed, float64(p.Relayed()))
}

func tunnel(send func(metric, float64, ...string), t *proxy.Tunnel) {
	numPages, numTunnels := t.Pages.Count()
	st := &t.Pages.Stats
	send(tunnels, float64(numTunnels))
	send(pages, float64(numPages))
	send(pageHeld, float64(t.HeldBack.Load()))
	send(pageEvents, float64(t.Clients.Clients.Load()))
	send(opened, float64(st.Opened.Load()))
	send(unopened, float64(st.Failed.Load()))
	send(expired, float64(st.Expired.Load()))
	send(carried, float64(st.Up.Load()), "up")
	send(carried, float64(st.Down.Load()), "down")
	send(weight, float64(st.UpBytes.Load()), "up")
	send(weight, float64(st.DownBytes.Load()), "down")
	send(bodies, float64(st.Streams.Load()))
	for i, reason := range stream.GapReasons {
		send(pageGaps, float64(st.Rings.Gaps[i].Load()), reason)
	}
}

// auth sends what a route's AUTH has found out.
func auth(send func(metric, float64, ...string), name string, s *access.Stats) {
	send(questioned, float64(s.Questions.Load()), name)
	send(fetched, float64(s.Fetches.Load()), name)
	send(revoked, float64(s.Revoked.Load()), name)
	send(decided, float64(s.Admitted.Load()), name, "admitted")
	send(decided, float64(s.Denied.Load()), name, "denied")
	send(decided, float64(s.Unavailable.Load()), name, "unavailable")
}
