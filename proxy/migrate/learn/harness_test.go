package learn_test

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidestream/config"
	"sidestream/proxy/migrate/learn"
)

// begin is when everything that tests see begins.
var begin = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// base is the service of all tests.
var base = &url.URL{Scheme: "http", Host: "localhost:3000"}

// talk is a conversation at target, whose cookies are a Cookie header's, written one message a line: "> text" by the client, "< text" by the
// service, ">> hex" and "<< hex" binary ones, ">q" and "<q" quoted, "+1s" lets time pass, "closed 4401" ends it.
func talk(t *testing.T, target, cookies, lines string) *learn.Conversation {
	t.Helper()
	c := &learn.Conversation{Request: request(t, target, cookies)}
	now := begin
	for line := range strings.Lines(lines) {
		line = strings.TrimRight(strings.TrimLeft(line, "\t "), "\n")
		mark, text, _ := strings.Cut(line, " ")
		now = now.Add(time.Millisecond)
		f := learn.Frame{At: now, FromClient: strings.HasPrefix(mark, ">"), Data: []byte(text)}
		switch {
		case mark == "":
			continue
		case mark[0] == '+':
			d, err := time.ParseDuration(mark[1:])
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(d)
			continue
		case mark == "closed":
			c.Over = true
			c.Code, _ = strconv.Atoi(text)
			continue
		case mark == ">>" || mark == "<<":
			data, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			f.Binary, f.Data = true, data
		case mark == ">q" || mark == "<q" || mark == ">>q" || mark == "<<q":
			f.Binary = len(mark) == 3
			plain, err := strconv.Unquote(text)
			if err != nil {
				t.Fatal(line, err)
			}
			f.Data = []byte(plain)
		case mark != ">" && mark != "<":
			t.Fatalf("no such line: %q", line)
		}
		if f.FromClient {
			c.Sent++
		} else {
			c.Received++
		}
		c.Frames = append(c.Frames, f)
	}
	return c
}

// request is what a client asked with.
func request(t *testing.T, target, cookies string) learn.Request {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	q := learn.Request{At: begin, Client: cookies, Path: u.EscapedPath()}
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		if name, v, ok := strings.Cut(part, "="); ok {
			plain, _ := url.QueryUnescape(v)
			q.Query = append(q.Query, learn.Pair{Name: name, Value: plain})
		}
	}
	for part := range strings.SplitSeq(cookies, "; ") {
		if name, v, ok := strings.Cut(part, "="); ok {
			q.Cookies = append(q.Cookies, learn.Pair{Name: name, Value: v})
		}
	}
	return q
}

// polls are the answers to requests for target, one each so often; {} in it is the number of the request.
func polls(t *testing.T, target, cookies string, every time.Duration, bodies ...string) (all []*learn.Answer) {
	t.Helper()
	for i, body := range bodies {
		a := &learn.Answer{Request: request(t, strings.ReplaceAll(target, "{}", strconv.Itoa(i)), cookies), Status: 200, Data: []byte(body), Size: len(body)}
		a.At = begin.Add(time.Duration(i) * every)
		a.End = a.At.Add(5 * time.Millisecond)
		all = append(all, a)
	}
	return all
}

// conclude makes a report, and requires that its env file is one that loads.
func conclude(t *testing.T, o *learn.Observation) (learn.Report, *config.Config) {
	t.Helper()
	o.Base = base
	r := learn.Conclude(o, nil)
	return r, load(t, r.Env)
}

// load reads an env file as the program does.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	environ, err := config.Overlay(nil, []byte(text))
	if err != nil {
		t.Fatalf("the env file is none: %v\n%s", err, text)
	}
	c, err := config.Load(environ, func(string) ([]byte, error) { return nil, fmt.Errorf("no file is read") })
	if err != nil {
		t.Fatalf("check refuses it: %v\n%s", err, text)
	}
	return c
}

// one is the only route of a report.
func one(t *testing.T, r learn.Report) *learn.Route {
	t.Helper()
	if len(r.Routes) != 1 {
		t.Fatalf("%d routes, want 1:\n%s", len(r.Routes), r.Env)
	}
	return &r.Routes[0]
}

// has fails unless a route has these settings, NAME=value each, and none of those that have no value.
func has(t *testing.T, rt *learn.Route, want ...string) {
	t.Helper()
	for _, w := range want {
		name, value, _ := strings.Cut(w, "=")
		if got := rt.Get(name); strings.TrimSpace(got) != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if t.Failed() {
		t.Logf("%+v", *rt)
	}
}

// learnTime spreads messages over time.
func learnTime(i int) time.Duration { return time.Duration(i*i) * 100 * time.Millisecond }
