package config

import (
	"fmt"
	"strings"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/upstream"
)

// This file is routes whose clients bring what is asked of the upstream: FACE=graphql-sse, and SCOPE=run.

// What a run has where nothing is set: a model may think for minutes before it says something, and all of its answer is to be had again.
const (
	runIdle   = span(10 * time.Minute)
	runEvents = 65536
)

// runs reports whether a route has runs, and gives it what such a route has by default.
func (l *loader) runs(vs, own values, kind string, s *settings, r *proxy.RouteSettings) bool {
	if s.Scope == "" && kind == "poll" && s.Mode == upstream.ModeStream && s.Method == "POST" && s.Body == "" {
		s.Scope = "run"
	}
	if s.Scope != "run" {
		for _, setting := range []string{"KEEP", "MAX_RUNS"} {
			if v, set := own[setting]; set && kind == "poll" && s.Mode == upstream.ModeStream {
				l.problems.add(v.variable, "has no effect here: it is for runs; set SCOPE=run and METHOD=POST, or unset it")
			}
		}
		r.Keep, r.MaxRuns = 0, 0
		return false
	}
	for _, setting := range []string{"START", "MAX_AGE", "EAGER", "PARITY", "REPLACES"} {
		if v, set := own[setting]; set {
			l.problems.add(v.variable, "has no effect with SCOPE=run: each run begins with a client's POST, is read from its beginning, and ends when its answer does; unset it")
		}
	}
	r.Start, r.MaxAge, r.Eager, r.Parity, r.Forgets = 0, 0, false, false, true
	if _, set := vs["IDLE"]; !set {
		s.Idle = runIdle
	}
	if _, set := vs["REPLAY_EVENTS"]; !set {
		r.ReplayEvents = runEvents
	}
	return true
}

// face reads the documents of a route with FACE=graphql-sse, and reports what has no place beside it.
func (l *loader) face(own values, documents value, s *settings, r *proxy.RouteSettings) {
	if s.Documents != "" && !documents.bad {
		text, err := l.file(s.Documents)
		l.saw.note(s.Documents, text, err)
		if err != nil {
			l.problems.add(documents.variable, "the file cannot be read: %v; give the path of a readable file", err)
		}
		s.Documents = string(text)
		if len(text) == 0 && err == nil {
			l.problems.add(documents.variable, "the file is empty; write the documents that clients may have run, or unset it")
		}
	}
	if s.Face != upstream.FaceGraphQL {
		return
	}
	for _, setting := range []string{"EAGER", "PARITY"} {
		if v, set := own[setting]; set {
			l.problems.add(v.variable, "has no place with FACE=graphql-sse, whose streams are what clients ask for; unset it")
		}
	}
	r.Eager, r.Parity, r.Forgets = false, false, true
}

// brings reports whether clients of a route bring what is asked of the upstream, so that no other route can merge it.
func brings(rt *proxy.RouteSettings) bool {
	return rt.Upstream != nil && (rt.Upstream.Operates() || rt.Upstream.Runs())
}

// checkBrought prints what clients of a route bring, and what becomes of it.
func checkBrought(line printer, rt *proxy.RouteSettings) {
	switch {
	case rt.Upstream.Operates():
		allowed := "any subscription"
		if documents := rt.Upstream.Documents(); documents != nil {
			allowed = fmt.Sprintf("%d documents (DOCUMENTS)", documents.Len())
		}
		line("face", "GraphQL over SSE; clients may have run %s; events are not kept over restarts", allowed)
	case rt.Upstream.Runs():
		most := "any number"
		if rt.MaxRuns > 0 {
			most = fmt.Sprintf("at most %d", rt.MaxRuns)
		}
		line("runs", "POST starts one, with ?run= GET resumes and DELETE stops it; one without clients goes on for %v, one that has ended is kept for %v; %s of one client", rt.Linger, rt.Keep, most)
		line("owner", "%s", ownerShown(rt))
	}
}

// ownerShown is who may come back to a run.
func ownerShown(rt *proxy.RouteSettings) string {
	if rt.Access != nil {
		return "who AUTH says that the client is"
	}
	if names := rt.Upstream.Credentials(); len(names) > 0 {
		return "who has the same " + strings.Join(names, ", ")
	}
	return "whoever knows its id: nothing that goes upstream tells clients apart, and AUTH is not set"
}
