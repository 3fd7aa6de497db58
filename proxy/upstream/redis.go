// This file is what both Redis sources have in common: redis.go, redis_pubsub.go (channels and patterns) and redis_streams.go, with redis_places.go and
// redis_entries.go. The rules:
//
//   - One connection for each upstream request. Placeholders stand in names of channels, patterns and streams only; who may read what is Redis'
//     to say, by the user in FROM.
//   - What Redis answers is shown by its first word, such as NOPERM: its text may quote what is confidential.
//   - Half of IDLE without anything sends a PING, all of IDLE without anything ends the connection.

package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/proxy/redisconn"
	"sidestream/translate"
	"sidestream/translate/decode"
	"sidestream/translate/dialect"
)

const (
	maxNamed     = 64        // channels, patterns or streams of one address
	maxNamedSize = 4 << 10   // bytes of a name
	batchSize    = 256       // messages emitted at once, while more wait to be read
	batchBytes   = 256 << 10 // of their data
)

// redisNames are the parameters of an address.
var redisNames = []string{"channel", "pattern", "stream"}

// redisDial opens a connection; tests have their own.
var redisDial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext

// Redis reports whether the route reads from a Redis.
func (rt *Route) Redis() bool { return onRedis(rt.settings.From) }

// RedisStreams reports whether it reads streams there, rather than channels.
func (rt *Route) RedisStreams() bool {
	at, err := parseRedisFrom(placeholder.ReplaceAllString(rt.settings.From, "x"))
	return rt.Redis() && err == nil && len(at.streams) > 0
}

// onRedis reports whether address is a Redis'.
func onRedis(address string) bool {
	scheme, _, _ := strings.Cut(address, "://")
	return slices.Contains(redisconn.Schemes, scheme)
}

// redisFrom is a FROM, taken apart.
type redisFrom struct {
	redisconn.Address
	channels, patterns, streams []string
}

// parseRedisFrom reads a FROM without placeholders. The error completes a sentence that begins with FROM, and holds no part of it.
func parseRedisFrom(text string) (at redisFrom, err error) {
	const write = "write ?channel=NAME, ?pattern=PATTERN or ?stream=KEY after the address, several with & between them"
	address, query, _ := strings.Cut(text, "?")
	if at.Address, err = redisconn.Parse(address); err != nil {
		return at, fmt.Errorf("is not the address of a Redis: %w", err)
	}
	lists := map[string]*[]string{"channel": &at.channels, "pattern": &at.patterns, "stream": &at.streams}
	total := 0
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		list := lists[name]
		if list == nil && query != "" {
			return at, fmt.Errorf("has something after the ? that is none of channel, pattern and stream; %s (a ? in the password is %%3F)", write)
		} else if list == nil {
			break
		}
		value, err := url.QueryUnescape(value)
		switch {
		case err != nil:
			return at, errors.New("has a % in a name that begins no escape; write it as %25")
		case value == "":
			return at, fmt.Errorf("has an empty %s; %s", name, write)
		case len(value) > maxNamedSize:
			return at, fmt.Errorf("has a %s of more than %d bytes", name, maxNamedSize)
		}
		*list = appendNew(*list, value)
		total++
	}
	switch {
	case total == 0:
		return at, fmt.Errorf("does not say what to read; %s", write)
	case total > maxNamed:
		return at, fmt.Errorf("names %d channels, patterns or streams; write at most %d, and the others in another route", total, maxNamed)
	case len(at.streams) > 0 && len(at.channels)+len(at.patterns) > 0:
		return at, errors.New("names streams beside channels or patterns, which are read in different ways; write two routes, and a third with FROM=routes: and their names")
	}
	return at, nil
}

// checkRedisFrom refuses an address that a client's values have made one that does not read.
func checkRedisFrom(address translate.Text) error {
	text, err := address.Fill(func(string) string { return "" })
	if err == nil {
		_, err = parseRedisFrom(text)
	}
	if err != nil {
		return &BadRequest{"the request does not form the name of a channel, pattern or stream"}
	}
	return nil
}

// redisSource is what both sources are made of.
type redisSource struct {
	q   Request
	log *slog.Logger
}

// redis is the source of a route whose FROM is a Redis.
func (q Request) redis(log *slog.Logger) Source {
	s := redisSource{q: q, log: log}
	if q.Route.RedisStreams() {
		return &redisStreams{redisSource: s, places: map[string]streamPlace{}}
	}
	return &redisPubSub{s}
}

// from is FROM as it is now: user and password may stand in a file.
func (s *redisSource) from() (redisFrom, error) {
	s.q.Route.reread(s.log)
	text, err := s.q.text("FROM").Fill(func(string) string { return "" })
	if err != nil {
		return redisFrom{}, err
	}
	at, err := parseRedisFrom(text)
	if err != nil {
		return at, fmt.Errorf("FROM %w", err)
	}
	return at, nil
}

// dialer is how the route's connections are made.
func (s *redisSource) dialer() redisconn.Dialer {
	return redisconn.Dialer{Dial: redisDial, Secure: s.q.Route.settings.Network.Secure}
}

// opened runs open, within the time that a connection may take, and f over what it returns. What f has taken is the caller's.
func (s *redisSource) opened(ctx context.Context, open func(context.Context) (*redisconn.Conn, error), f func(*redisconn.Conn) error) (*redisconn.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := open(ctx)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { c.Close() })
		if err = f(c); !stop() {
			err = ctx.Err()
		}
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, err
	}
	return c, nil
}

// moved reports whether sentinels know another master by now than the one at the other end. Where they cannot be asked there is none.
func (s *redisSource) moved(ctx context.Context, at redisFrom, c *redisconn.Conn) error {
	if at.Master == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if master, err := at.FindMaster(ctx, s.dialer()); err == nil && master != c.At() {
		return errors.New("the sentinels name another master by now")
	}
	return nil
}

// arrived makes a message of a payload in the form that DECODE or BINARY gives it; false: it is dropped.
func (s *redisSource) arrived(topic string, data []byte) (translate.Message, bool) {
	rt := s.q.Route
	binary := !utf8.Valid(data)
	rt.Stats.Received.Add(1)
	rt.trace.arrived(data, binary)
	m := translate.Message{Topic: topic, Data: data}
	switch {
	case len(rt.decode) > 0 && len(data) > 0:
		return s.unpacked(m)
	case !binary || rt.settings.Binary == dialect.BinaryText:
	case rt.settings.Binary == dialect.BinaryDrop:
		rt.trace.step("it is binary, and dropped (BINARY)")
		return m, false
	default:
		m.Data, m.Text = base64.StdEncoding.AppendEncode(nil, data), true
	}
	return m, true
}

// unpacked is m without what DECODE undoes: all messages are packed, but empty ones.
func (s *redisSource) unpacked(m translate.Message) (translate.Message, bool) {
	rt := s.q.Route
	one := dialect.Decoded{Size: len(m.Data)}
	one.Data, one.Err = rt.decode.Decode(m.Data, rt.settings.MaxMessage)
	rt.trace.decoded(one)
	rt.decoding(s.log, []dialect.Decoded{one})
	if errors.Is(one.Err, decode.ErrTooLarge) {
		return translate.Message{Gap: translate.GapUpstream}, true
	}
	m.Data = one.Data
	return m, one.Err == nil
}

// oversize is what is left of a message that is larger than MAX_MESSAGE.
func (s *redisSource) oversize() translate.Message {
	s.q.Route.Stats.Received.Add(1)
	s.q.Route.Stats.Oversize.Add(1)
	s.log.Warn("message larger than MAX_MESSAGE skipped", "limit", s.q.Route.settings.MaxMessage)
	return translate.Message{Gap: translate.GapUpstream}
}

// redisRefusals are errors that a second try does not cure, by the first word of what Redis answers; says, if not empty, is in its text.
var redisRefusals = []struct {
	code, says string
	status     int
	fix        string
}{
	{"WRONGPASS", "", http.StatusUnauthorized, "it does not take the user and password in FROM; write redis://USER:PASSWORD@HOST, or :PASSWORD@ for the default user"},
	{"NOAUTH", "", http.StatusUnauthorized, "it wants a password; write redis://USER:PASSWORD@HOST in FROM, or :PASSWORD@ for the default user"},
	{"ERR", "invalid password", http.StatusUnauthorized, "it does not take the password in FROM; write redis://:PASSWORD@HOST"},
	{"ERR", "without any password", http.StatusUnauthorized, "it has no password, and FROM has one; leave it out"},
	{"ERR", "Client sent AUTH", http.StatusUnauthorized, "it has no password, and FROM has one; leave it out"},
	{"ERR", "wrong number of arguments for 'auth'", http.StatusUnauthorized, "it is older than 6 and has no users; write redis://:PASSWORD@HOST"},
	{"DENIED", "", http.StatusForbidden, "it is in protected mode and takes connections from its own machine only; give it a password, and write that in FROM"},
	{"NOPERM", "", http.StatusForbidden, "its user may not read that; grant it with ACL SETUSER: +subscribe &CHANNEL, +psubscribe &PATTERN, or +xread +xinfo ~KEY"},
	{"WRONGTYPE", "", http.StatusNotFound, "one of the keys holds something other than a stream; write the key of a stream in ?stream=, or in ?channel= the channel"},
	{"CROSSSLOT", "", http.StatusNotFound, "the streams are in different slots of the cluster; give their keys the same {tag}, or write a route for each and merge them (FROM=routes:a,b)"},
	{"ERR", "DB index", http.StatusNotFound, "it has no database of that number; correct the one after the / in FROM"},
	{"ERR", "SELECT is not allowed", http.StatusNotFound, "it is a node of a cluster, which has no databases; write redis+cluster://HOST,HOST in FROM"},
	{"ERR", "unknown command", http.StatusNotFound, "it does not know a command that the route needs: streams need Redis 5 or later"},
}

// redisVerdict is err, with which a command or a connection has failed, fit to be shown.
func redisVerdict(err error, cluster bool) error {
	var answered *redisconn.Error
	switch {
	case errors.Is(err, redisconn.ErrUnknownMaster):
		return passing(http.StatusNotFound, "the sentinels know no master by the name in FROM; correct it")
	case errors.As(err, &answered):
		if answered.Code == "MOVED" && !cluster {
			return passing(http.StatusNotFound, answered.Error()+": it is a node of a cluster, of which another one has the stream; write redis+cluster://HOST,HOST in FROM")
		}
		for _, r := range redisRefusals {
			if answered.Code == r.code && answered.Says(r.says) {
				return passing(r.status, answered.Error()+": "+r.fix)
			}
		}
		return answered
	case errors.Is(err, redisconn.ErrProtocol), final(err), errors.Is(err, errIdle):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errIdle
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v", dialTime)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return errors.New("the Redis closed the connection")
	}
	if dialled, ok := errors.AsType[*net.OpError](err); ok && dialled.Op != "dial" {
		return fmt.Errorf("connection lost: %w", Kind(err))
	}
	return fmt.Errorf("connect: %w", Kind(err))
}
