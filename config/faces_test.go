package config

import (
	"strings"
	"testing"
	"time"
)

var (
	faceBase = []string{"SSE_ROUTE_G_PATH=/graphql", "SSE_ROUTE_G_FROM=ws://legacy/graphql", "SSE_ROUTE_G_PROTOCOL=graphql-transport-ws", "SSE_ROUTE_G_FACE=graphql-sse"}
	runBase  = []string{"SSE_ROUTE_R_PATH=/v1/chat", "SSE_ROUTE_R_FROM=http://legacy/v1/chat", "SSE_ROUTE_R_METHOD=POST", "SSE_ROUTE_R_MODE=stream"}
)

const documentsFile = `{"a":"subscription A { a }","b":"query B { b }"}`

func TestFaces(t *testing.T) {
	c, err := Load(append(append(faceBase[:4:4], runBase...), "SSE_ROUTE_G_DOCUMENTS=/docs.json", "SSE_ROUTE_G_FORWARD=Cookie", "SSE_ROUTE_R_FORWARD=Authorization, X-Version"),
		files(map[string]string{"/docs.json": documentsFile}))
	if err != nil {
		t.Fatal(err)
	}
	g, r := c.Routes[0], c.Routes[1]
	if !g.Upstream.Operates() || g.Upstream.Documents().Len() != 2 || !g.Forgets || g.Upstream.Shared() || g.Upstream.Runs() {
		t.Errorf("%+v", g)
	}
	if !r.Upstream.Runs() || r.Keep != 5*time.Minute || r.MaxRuns != 100 || r.ReplayEvents != runEvents || !r.Forgets || r.Upstream.Operates() {
		t.Errorf("%+v", r)
	}
	var out strings.Builder
	if err := c.Check(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one upstream connection for each different operation, Cookie header\n", "face    GraphQL over SSE; clients may have run 2 documents (DOCUMENTS)",
		"from    posts to http://legacy/v1/chat\n  sharing one upstream request for each POST of a client's", "at most 100 of one client\n", "owner   who has the same Authorization header\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("check does not say %q:\n%s", want, &out)
		}
	}
}

// A route that posts a body of its own is no run, nor is one that says so; one that says it is needs no body either.
func TestRunsAreRecognised(t *testing.T) {
	for more, runs := range map[string]bool{"": true, "SSE_ROUTE_R_SCOPE=run": true, "SSE_ROUTE_R_SCOPE=request": false, `SSE_ROUTE_R_BODY={"a":1}`: false, "SSE_ROUTE_R_SCOPE=session": false} {
		if c := load(t, append(runBase[:4:4], more)...); c.Routes[0].Upstream.Runs() != runs {
			t.Errorf("%s: %v", more, !runs)
		}
	}
	c := load(t, append(runBase[:4:4], "SSE_ROUTE_R_REPLAY_EVENTS=7", "SSE_ROUTE_R_KEEP=1s", "SSE_ROUTE_R_MAX_RUNS=off", "SSE_MAX_AGE=1h")...)
	if r := c.Routes[0]; r.ReplayEvents != 7 || r.Keep != time.Second || r.MaxRuns != 0 || r.MaxAge != 0 {
		t.Errorf("%+v", r)
	}
}

func TestFaceProblems(t *testing.T) {
	for given, want := range map[string]string{
		"SSE_ROUTE_G_SUBSCRIBE=subscription { a }":                         "SSE_ROUTE_G_SUBSCRIBE: has no effect with FACE=graphql-sse",
		"SSE_ROUTE_G_EVENT=.a":                                             "SSE_ROUTE_G_EVENT: has no effect with FACE=graphql-sse",
		"SSE_ROUTE_G_HELLO=x":                                              "SSE_ROUTE_G_HELLO: has no effect with FACE=graphql-sse",
		"SSE_ROUTE_G_SEND=true":                                            "SSE_ROUTE_G_SEND: has no place with FACE=graphql-sse",
		"SSE_ROUTE_G_SCOPE=session":                                        "SSE_ROUTE_G_SCOPE: session has no place with FACE=graphql-sse",
		"SSE_ROUTE_G_EAGER=true":                                           "SSE_ROUTE_G_EAGER: has no place with FACE=graphql-sse",
		"SSE_ROUTE_G_PROTOCOL=raw":                                         "SSE_ROUTE_G_FACE: graphql-sse is for GraphQL subscriptions; write PROTOCOL=graphql-transport-ws",
		"SSE_ROUTE_G_FACE=graphql":                                         "SSE_ROUTE_G_FACE: \"graphql\" is none of sse, graphql-sse; write graphql-sse",
		"SSE_ROUTE_G_FACE=sse\nSSE_ROUTE_G_DOCUMENTS=/docs.json":           "SSE_ROUTE_G_DOCUMENTS: is the list of the documents that clients may have run, and has no effect without FACE=graphql-sse",
		"SSE_ROUTE_G_DOCUMENTS=/none.json":                                 "SSE_ROUTE_G_DOCUMENTS: the file cannot be read: file does not exist; give the path of a readable file",
		"SSE_ROUTE_G_DOCUMENTS=/empty.json":                                "SSE_ROUTE_G_DOCUMENTS: the file is empty",
		"SSE_ROUTE_G_DOCUMENTS=/bad.json":                                  "SSE_ROUTE_G_DOCUMENTS: the file has a value that is no text; write {\"id\":\"document\"}",
		"SSE_ROUTE_R_FACE=graphql-sse":                                     "SSE_ROUTE_R_FACE: has no effect here: it is for WebSockets, and FROM is an HTTP URL; unset it",
		"SSE_ROUTE_R_SCOPE=run\nSSE_ROUTE_R_METHOD=GET":                    "SSE_ROUTE_R_SCOPE: run is for what a client starts with a POST",
		"SSE_ROUTE_R_SCOPE=run\nSSE_ROUTE_R_MODE=every":                    "SSE_ROUTE_R_SCOPE: run is for what a client starts with a POST",
		"SSE_ROUTE_G_SCOPE=run":                                            "SSE_ROUTE_G_SCOPE: run is for what a client starts with a POST",
		"SSE_ROUTE_R_SCOPE=run\nSSE_ROUTE_R_BODY=x":                        "SSE_ROUTE_R_BODY: has no place with SCOPE=run",
		"SSE_ROUTE_R_STATUS=404=retry":                                     "SSE_ROUTE_R_STATUS: has no place with SCOPE=run",
		"SSE_ROUTE_R_START=all":                                            "SSE_ROUTE_R_START: has no effect with SCOPE=run",
		"SSE_ROUTE_R_EAGER=true":                                           "SSE_ROUTE_R_EAGER: has no effect with SCOPE=run",
		"SSE_ROUTE_R_MAX_AGE=1h":                                           "SSE_ROUTE_R_MAX_AGE: has no effect with SCOPE=run",
		"SSE_ROUTE_R_SCOPE=request\nSSE_ROUTE_R_KEEP=1m":                   "SSE_ROUTE_R_KEEP: has no effect here: it is for runs",
		"SSE_ROUTE_R_KEEP=0":                                               "SSE_ROUTE_R_KEEP: \"0\" is out of bounds",
		"SSE_ROUTE_M_PATH=/m\nSSE_ROUTE_M_FROM=routes:g":                   "SSE_ROUTE_M_FROM: g answers what its clients bring themselves",
		"SSE_ROUTE_M_PATH=/m\nSSE_ROUTE_M_FROM=routes:r":                   "SSE_ROUTE_M_FROM: r answers what its clients bring themselves",
		"SSE_ROUTE_G_PROTOCOL=graphql-ws\nSSE_ROUTE_G_FROM=http://legacy/": "SSE_ROUTE_G_",
	} {
		environ := map[string]string{}
		for _, entry := range append(append(faceBase[:4:4], runBase...), strings.Split(given, "\n")...) {
			variable, text, _ := strings.Cut(entry, "=")
			environ[variable] = text
		}
		var all []string
		for variable, text := range environ {
			all = append(all, variable+"="+text)
		}
		_, err := Load(all, files(map[string]string{"/docs.json": documentsFile, "/empty.json": "", "/bad.json": `{"a":1}`}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant %s", given, err, want)
		}
	}
}

// A file of documents that has changed makes another route of it.
func TestDocumentsAreReread(t *testing.T) {
	with := func(text string) *Config {
		l := loader{readFile: files(map[string]string{"/docs.json": text}), saw: sighted{}}
		c, err := l.load(append(faceBase[:4:4], "SSE_ROUTE_G_DOCUMENTS=/docs.json"))
		if err != nil {
			t.Fatal(err)
		}
		if len(l.saw) != 1 {
			t.Errorf("saw %v", l.saw)
		}
		return c
	}
	was := with(documentsFile)
	if d := was.Diff(with(documentsFile)); !d.Nothing() {
		t.Errorf("%+v", d)
	}
	if d := was.Diff(with(`{"a":"subscription C { c }"}`)); len(d.Routes) != 1 || d.Routes[0].How != Changed || d.Routes[0].Because[0] != "SSE_ROUTE_G_DOCUMENTS" {
		t.Errorf("%+v", d)
	}
}
