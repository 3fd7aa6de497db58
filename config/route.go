package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/outbound"
	"sidestream/proxy/redisconn"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
)

// How long a poll may take unless TIMEOUT says. Consul's longest wait, 5 min and a sixteenth, shall fit.
const (
	defaultTimeout  = span(10 * time.Second)
	longPollTimeout = span(6 * time.Minute)
)

func (d span) duration() time.Duration { return time.Duration(d) }

// route makes one route of its own values over the global ones.
func (l *loader) route(route string, global, own values) (*proxy.RouteSettings, given[settings]) {
	vs := inherited(global)
	maps.Copy(vs, own)
	s := parse[settings](l, routeFields, vs)
	r := routeSettings(route, s)
	kind := l.kind(route, vs, s.From, s.Protocol)
	if _, set := vs["START"]; kind == "merge" {
		if _, set := own["START"]; !set {
			r.Start = stream.StartKeys // with each part as that says
		}
	} else if !set && s.Scope == "session" {
		r.Start = stream.StartAll // a client that was cut before its first event has no id, and shall miss nothing
	} else if !set && kind == "poll" && s.Mode != upstream.ModeStream {
		r.Start = 1
	}
	runs := l.runs(vs, own, kind, &s, r)
	if _, set := vs["TIMEOUT"]; !set {
		s.Timeout = defaultTimeout
		if s.Every == 0 || runs {
			s.Timeout = longPollTimeout
		}
	}
	if kind == "redis" {
		s = l.checkRedis(own, s)
	} else {
		l.checkKind(own, kind, s.Mode == "stream")
	}
	if r.Send && kind == "poll" {
		l.problems.add(vs.variable(name{route, "SEND"}), "a poll cannot send; begin FROM with ws:// or wss://, or unset SEND")
	}
	l.face(own, vs["DOCUMENTS"], &s, r)
	l.checkPath(route, vs, s.Path)
	l.checkLinger(route, vs, r)
	network := l.network(route, vs, own, s)
	r.Access = l.access(route, vs, own, s)
	if r.Access == nil {
		s.AuthClaims = nil // nothing fills them in
	} else {
		r.Access.Network, r.Access.KeysNetwork = l.toAuth(r.Access.URL, s.From, network), l.toAuth(r.Access.Keys.URL, s.From, network)
	}
	if kind == "merge" {
		network, s = outbound.Settings{}, ofMergedAlone(s)
		r.Send, r.Eager = false, false
	}
	r.Upstream = l.compile(route, vs, s, network)
	l.checkEager(route, vs, r)
	if !runs {
		l.replaces(route, vs, s, r)
	}
	l.checkParity(route, vs, r)
	s.Start = start(r.Start)
	return r, given[settings]{vs, s}
}

// routeSettings is what proxy has to know of a route, but for what is compiled.
func routeSettings(route string, s settings) *proxy.RouteSettings {
	return &proxy.RouteSettings{
		Name:         strings.ToLower(route),
		Path:         s.Path,
		Start:        int(s.Start),
		Heartbeat:    s.Heartbeat.duration(),
		Coalesce:     s.Coalesce.duration(),
		Compress:     s.Compress == "gzip",
		Retry:        s.Retry.duration(),
		ReplayEvents: int(s.ReplayEvents),
		ReplayBytes:  int(s.ReplayBytes),
		ReplayAge:    s.ReplayAge.duration(),
		Linger:       s.Linger.duration(),
		Eager:        bool(s.Eager),
		MaxAge:       s.MaxAge.duration(),
		RefuseAfter:  s.RefuseAfter.duration(),
		MaxPerStream: int(s.MaxPerStream),
		MaxClients:   int(s.MaxClients),
		MaxStreams:   int(s.MaxStreams),
		Send:         bool(s.Send),
		Replaces:     patterns(s.Replaces),
		Parity:       bool(s.Parity),
		Forgets:      s.History == "memory",
		Keep:         s.Keep.duration(),
		MaxRuns:      int(s.MaxRuns),
	}
}

// kind says what FROM makes of the route, ws, poll, redis or merge, and reports a FROM that says none of them.
func (l *loader) kind(route string, vs values, from, protocol string) string {
	variable := vs.variable(name{route, "FROM"})
	scheme, _, ok := strings.Cut(from, "://")
	switch {
	case vs["FROM"].bad:
	case from == "":
		l.problems.add(variable, "required; write where the events come from, such as ws://localhost:3000/feed or http://localhost:3000/status")
	case upstream.MergedNames(from) != nil:
		return "merge"
	case ok && (scheme == "ws" || scheme == "wss" || scheme == "ws+unix"):
		return "ws"
	case ok && (scheme == "http" || scheme == "https" || scheme == "http+unix"):
		if upstream.Posts(protocol) {
			return "ws"
		}
		return "poll"
	case ok && slices.Contains(redisconn.Schemes, scheme):
		return "redis"
	case quoted(from):
		l.problems.add(variable, "is in quotes, which are part of the value here; leave them out")
	default:
		l.problems.add(variable, "does not begin with ws://, wss://, http://, https:// or redis://; write the whole URL, such as ws://localhost:3000/feed")
	}
	return ""
}

// checkKind reports settings of the route's own that have no effect on its kind. Global ones merely do not apply.
func (l *loader) checkKind(own values, kind string, stream bool) {
	others := map[string]string{"ws": "polls, and FROM is a WebSocket URL", "poll": "WebSockets, and FROM is an HTTP URL"}
	for _, f := range routeFields {
		v, set := own[f.env]
		if set && kind == "merge" && !ofMerged[f.env] {
			l.problems.add(v.variable, "has no effect here: FROM merges other routes, which have their own; set it on them, or unset it")
		}
		if !set || kind == "" || kind == "merge" || f.kind == "" {
			continue
		}
		kinds := strings.Fields(f.kind)
		switch {
		case kind == "poll" && stream && f.env == "EVERY":
			l.problems.add(v.variable, "has no effect here: it is for polls, and MODE is stream; unset it")
		case f.kind == "stream" && !stream:
			l.problems.add(v.variable, "has no effect here: it is for MODE=stream; unset it")
		case !slices.Contains(kinds, kind) && !(kind == "poll" && stream && slices.Contains(kinds, "stream")):
			l.problems.add(v.variable, "has no effect here: it is for %s; unset it", others[kind])
		}
	}
}

// checkLinger holds that a client which comes back after its retry hint finds its stream alive.
func (l *loader) checkLinger(route string, vs values, r *proxy.RouteSettings) {
	retry, linger := name{route, "RETRY"}, name{route, "LINGER"}
	if r.Eager || r.Linger > 2*r.Retry || vs["RETRY"].bad || vs["LINGER"].bad {
		return
	}
	blame := linger
	if _, set := vs["LINGER"]; !set {
		blame = retry
	}
	fix := fmt.Sprintf("set LINGER above %v", 2*r.Retry)
	if r.Linger > 0 {
		fix += fmt.Sprintf(" or RETRY below %v", r.Linger/2)
	}
	l.problems.add(vs.variable(blame), "LINGER %v does not exceed 2×RETRY, %v: clients would return after their stream has ended; %s",
		r.Linger, 2*r.Retry, fix)
}

func (l *loader) checkEager(route string, vs values, r *proxy.RouteSettings) {
	if r.Eager && r.Upstream != nil && !r.Upstream.Shared() {
		l.problems.add(vs.variable(name{route, "EAGER"}), "the route uses the client's request (a placeholder, FORWARD or SCOPE=session), "+
			"so nothing can start before a client asks; unset EAGER, or remove these")
	}
}

// compile lets upstream check the settings whose syntax it owns. What is reported of a setting already is not said twice.
func (l *loader) compile(route string, vs values, s settings, network outbound.Settings) *upstream.Route {
	known := slices.Clone(l.problems)
	source := l.source(s)
	source.Network = network
	source.FromFile = vs["FROM"].file
	if reread := l.reread(vs, s); reread != nil {
		source.Reread = func() (*upstream.SourceSettings, error) {
			changed, err := reread()
			if changed != nil {
				changed.Network = network
			}
			return changed, err
		}
	}
	compiled, err := upstream.Compile(source)
	for _, e := range settingErrors(err) {
		if variable := vs.variable(name{route, e.Setting}); !known.about(variable) {
			l.problems.add(variable, "%s", e.Problem)
		}
	}
	if err != nil {
		return nil
	}
	return compiled
}

// reread returns what the route's settings are when the files that hold some of them have changed since it was called last, nil if there are
// no files. It is not called by two at once.
func (l *loader) reread(vs values, was settings) func() (*upstream.SourceSettings, error) {
	held := map[string]value{}
	for setting, v := range vs {
		if v.file && !v.bad {
			held[setting] = v
		}
	}
	if len(held) == 0 {
		return nil
	}
	readFile, maxValue, secrets := l.readFile, l.maxValue, l.secrets
	return func() (*upstream.SourceSettings, error) {
		again := loader{readFile: readFile, maxValue: maxValue, secrets: secrets}
		now, changed := maps.Clone(vs), false
		for setting, v := range held {
			v.text = v.path
			read := again.contents(v)
			changed = changed || read.text != held[setting].text
			now[setting] = read
		}
		if err := again.problems.err(); err != nil || !changed {
			return nil, err
		}
		s := parse[settings](&again, routeFields, now)
		if err := again.problems.err(); err != nil {
			return nil, err
		}
		for setting := range held {
			held[setting] = now[setting]
		}
		s.Timeout, s.AuthClaims = was.Timeout, was.AuthClaims             // which depend on EVERY and AUTH
		s.Scope, s.Idle, s.Documents = was.Scope, was.Idle, was.Documents // and these on more
		source := again.source(s)
		return &source, nil
	}
}

// source is what upstream has to know of a route.
func (l *loader) source(s settings) upstream.SourceSettings {
	return upstream.SourceSettings{
		PathNames: wildcards(s.Path), Secrets: l.secrets, Claims: s.AuthClaims, From: s.From, Headers: s.Headers, Forward: s.Forward, Protocol: s.Protocol,
		Connect: s.Connect, Subscribe: s.Subscribe, Subprotocol: s.Subprotocol, Hello: s.Hello, Reply: s.Reply, ReplyMax: int(s.ReplyMax), Ping: s.Ping, Send: bool(s.Send), PingEvery: s.PingEvery.span(), PingProgram: s.PingEvery.program(), Pong: s.Pong,
		State: s.State, Resumed: s.Resumed, Ticket: s.Ticket, Dial: s.Dial, Close: s.Close, Separator: s.Separator,
		Idle: s.Idle.duration(), Every: s.Every.duration(), Mode: s.Mode, Method: s.Method, Body: s.Body,
		Cursor: s.Cursor, First: s.First, Reset: s.Reset, Refused: s.Refused, Status: s.Status, Next: s.Next, Pages: int(s.Pages), Interval: s.Interval, Format: s.Format, Key: s.Key,
		Timeout: s.Timeout.duration(), Select: s.Select, Event: s.Event, Data: s.Data, ID: s.ID, Done: s.Done,
		Decode: s.Decode, Binary: s.Binary, MaxMessage: int(s.MaxMessage), MaxValue: l.maxValue, NoCookies: !bool(s.Cookies), Session: s.Scope == "session", Run: s.Scope == "run",
		Face: s.Face, Documents: s.Documents,
	}
}

// settingErrors takes apart what Compile joined.
func settingErrors(err error) (all []*upstream.SettingError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			all = append(all, settingErrors(err)...)
		}
		return all
	}
	if e, ok := errors.AsType[*upstream.SettingError](err); ok {
		return append(all, e)
	}
	if err != nil {
		panic(err) // against Compile's contract
	}
	return nil
}
