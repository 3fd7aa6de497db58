//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Services that say over HTTP what has changed: those of ours here, real ones in recipes_polls_test.go.

// hides holds that none of the texts is in the log, the metrics, or the status.
func (s *sidecar) hides(t *testing.T, secrets ...string) {
	t.Helper()
	shown := s.stderr.String() + s.stdout.String() + body(t, "http://"+s.admin+"/metrics") + body(t, "http://"+s.admin+"/api/status")
	if !strings.Contains(shown, "sidestream_streams") {
		t.Error("nothing is shown at all")
	}
	for _, secret := range secrets {
		if strings.Contains(shown, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
}

// refusesSoon holds that a client is refused, by its status, or by an event where the refusal has come in the answer to it.
func (f *feedServer) refusesSoon(t *testing.T, want string, env ...string) {
	t.Helper()
	got := ask(t, f.sidecar(t, env...).addr, "HTTP/1.0", f.path, "refused")
	got.until(t, want)
	if text := got.got.String(); !strings.Contains(text, "HTTP/1.0 "+want+" ") && !strings.Contains(text, "event: stream.refused\ndata: {\"status\":"+want+"}\n") {
		t.Errorf("%q", text)
	}
}

// watched is what our own servers of streams have seen.
type watched struct {
	Lists, Refused, Open int
	Watches, Asked       []string
}

func (f *feedServer) watched(t *testing.T) (seen watched) {
	t.Helper()
	f.do(t, "seen", nil, &seen)
	return seen
}

func TestRecipeKubernetes(t *testing.T) {
	t.Parallel()
	const token = "YOUR-TOKEN"
	f := startFeedServer(t, "kubernetes", `{"token":"`+token+`"}`)
	f.do(t, "pod", fields{"type": "ADDED", "name": "a", "phase": "Pending"}, nil)
	f.do(t, "pod", fields{"type": "ADDED", "name": "b", "phase": "Running"}, nil)
	s := f.sidecar(t)
	events := f.events(t, s)
	pod := func(name, phase string) string {
		return `{"labels":{"app":"shop"},"name":"` + name + `","phase":"` + phase + `"}`
	}
	events.next(t, "ADDED", pod("a", "Pending"))
	events.next(t, "ADDED", pod("b", "Running"))
	watching := func() {
		t.Helper()
		eventually(t, "the watch", func() bool { return f.watched(t).Open == 1 })
	}
	watching()
	f.reach(t, 1, "pod", fields{"type": "MODIFIED", "name": "a", "phase": "Running"})
	events.next(t, "MODIFIED", pod("a", "Running"))

	// Cut in the middle of a change, ended in order, and ended by another error: nothing is lost, nothing comes twice.
	n := 0
	for _, end := range []string{"tear", "end", "error"} {
		for range 2 {
			watching()
			change := fields{"type": "MODIFIED", "name": "a", "phase": fmt.Sprint("torn", n)}
			f.do(t, end, change, nil)
			if end != "tear" {
				f.do(t, "pod", change, nil)
			}
			events.whole(t, "MODIFIED", pod("a", fmt.Sprint("torn", n)))
			n++
		}
	}
	if got := events.got.String(); strings.Contains(got, "torn") || strings.Contains(got, "stream.gap") {
		t.Errorf("besides: %q", got)
	}
	// Who comes later begins with the newest of each.
	late := f.events(t, s)
	late.until(t, pod("a", fmt.Sprint("torn", n-1)))
	late.until(t, pod("b", "Running"))
	if got := late.got.String(); strings.Contains(got, "Pending") || strings.Contains(got, `"torn0"`) {
		t.Errorf("%q", got)
	}

	// A bookmark is a place from which to go on, though what was before is compacted.
	watching()
	f.reach(t, 1, "bookmark", nil)
	f.reach(t, 1, "pod", fields{"type": "DELETED", "name": "b", "phase": "Failed"})
	events.whole(t, "DELETED", pod("b", "Failed"))
	f.reach(t, 1, "bookmark", nil)
	f.do(t, "end", nil, nil)
	eventually(t, "a watch from the bookmark", func() bool { w := f.watched(t).Watches; return w[len(w)-1] >= "1200" })
	lists := f.watched(t).Lists
	for _, as := range []string{"event", "status"} { // too old: a gap, and what there is
		watching()
		f.do(t, "compact", fields{"as": as}, nil)
		events.gap(t)
		events.next(t, "ADDED", pod("a", fmt.Sprint("torn", n-1)))
		watching()
		f.reach(t, 1, "pod", fields{"type": "MODIFIED", "name": "a", "phase": as})
		events.whole(t, "MODIFIED", pod("a", as))
		f.do(t, "pod", fields{"type": "MODIFIED", "name": "a", "phase": fmt.Sprint("torn", n-1)}, nil)
		events.whole(t, "MODIFIED", pod("a", fmt.Sprint("torn", n-1)))
	}
	if now := f.watched(t).Lists; now != lists+2 {
		t.Errorf("%d lists, want 2 more than %d", now, lists)
	}
	if strings.Contains(late.got.String(), "not for pages") {
		t.Error("what DATA leaves out is there")
	}
	s.hides(t, token)
	f.refuses(t, 401, "SSE_SECRET_KUBERNETES=wrong")
	f.refuses(t, 403, "SSE_SECRET_KUBERNETES=viewer")
}

// engine is the recipe docker or podman with a server of ours on a Unix socket.
func engine(t *testing.T, name, log string) (control, socket *feedServer) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "s")
	if log != "" {
		log = filepath.Join(t.TempDir(), log)
	}
	options, _ := json.Marshal(fields{"socket": at, "log": log})
	control = startFeedServer(t, name, string(options))
	return control, &feedServer{recipe: control.recipe, addr: at}
}

func TestRecipeDocker(t *testing.T) {
	t.Parallel()
	f, socket := engine(t, "docker", "")
	s := socket.sidecar(t)
	events := f.events(t, s)
	start := func(name string) {
		t.Helper()
		f.reach(t, 1, "event", fields{"type": "container", "action": "start", "name": name})
		events.until(t, "event: container.start\ndata: {\"id\":\"id-"+name+`","name":"`+name+`","timeNano":1`)
	}
	start("a")
	f.do(t, "event", fields{"type": "image", "action": "pull", "name": "left-out"}, nil)
	start("b")
	if got := events.got.String(); strings.Contains(got, "left-out") || strings.Contains(got, "not for pages") || strings.Contains(got, "stream.gap") {
		t.Errorf("%q", got)
	}
	f.do(t, "tear", fields{"type": "container", "action": "die", "name": "c"}, nil)
	events.gap(t)
	start("d")
	f.restart(t, f.options) // which has forgotten everything
	events.gap(t)
	start("e")
	if strings.Contains(events.got.String(), "id-c") {
		t.Error("half of an event is one")
	}
	if asked := f.watched(t).Asked; len(asked) != 1 || !strings.HasPrefix(asked[0], "localhost/") {
		t.Errorf("%q", asked)
	}
	socket.refuses(t, 400, "SSE_ROUTE_DOCKER_FROM=http+unix://"+socket.addr+":/v1.41/events?filters=%7B%22nonesuch%22%3A%5B%22x%22%5D%7D")
}

func TestRecipePodman(t *testing.T) {
	t.Parallel()
	f, socket := engine(t, "podman", "events.log")
	f.do(t, "event", fields{"type": "volume", "action": "create", "name": "before"}, nil)
	events := f.events(t, socket.sidecar(t))
	eventually(t, "the stream", func() bool { return f.watched(t).Open == 1 })
	says := func(how string, n int) string {
		name := fmt.Sprintf("v%d", n)
		f.do(t, how, fields{"type": "volume", "action": "create", "name": name}, nil)
		return `{"id":"id-` + name + `"`
	}
	n := 0
	come := func() { // all so far, each once
		t.Helper()
		last := fmt.Sprintf(`{"id":"id-v%d"`, n-1)
		events.until(t, last)
		for i := range n {
			if got := strings.Count(events.got.String(), fmt.Sprintf(`data: {"id":"id-v%d",`, i)); got != 1 {
				t.Fatalf("v%d came %d times: %q", i, got, events.got.String())
			}
		}
	}
	say := func(how string, times int) {
		for range times {
			says(how, n)
			n++
		}
	}
	say("event", 3)
	come()
	for range 3 { // cut in an event, and several are missed
		eventually(t, "the stream", func() bool { return f.watched(t).Open == 1 })
		say("tear", 1)
		say("event", 5)
		come()
	}
	f.restart(t, f.options)
	say("event", 3)
	come()
	if got := events.got.String(); strings.Contains(got, "before") || strings.Contains(got, "stream.gap") {
		t.Errorf("%q", got)
	}
}

// TestRecipeEtcd3 runs etcd itself.
func TestRecipeEtcd3(t *testing.T) {
	t.Parallel()
	dir, peer := t.TempDir(), freeAddr(t)
	etcd := &server{addr: freeAddr(t)}
	start := func(dir string) func() *process {
		return func() *process {
			return launch(t, []string{"ETCD_UNSUPPORTED_ARCH=arm64"}, "/usr/bin/etcd", "--data-dir", dir, "--log-level", "error", "--unsafe-no-fsync",
				"--listen-client-urls", "http://"+etcd.addr, "--advertise-client-urls", "http://"+etcd.addr, "--listen-peer-urls", "http://"+peer,
				"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
		}
	}
	etcd.start = start(dir)
	etcd.up(t, "/health")
	call := func(path string, with fields) string {
		t.Helper()
		text, err := json.Marshal(with)
		if err != nil {
			t.Fatal(err)
		}
		return request(t, "POST", "http://"+etcd.addr+"/v3/"+path, "application/json", string(text))
	}
	base := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	put := func(key, value string) { t.Helper(); call("kv/put", fields{"key": base(key), "value": base(value)}) }
	put("/config/a", "before")
	way := severer{target: etcd.addr}
	f := &feedServer{recipe: findRecipe(t, "etcd3"), addr: way.listen(t)}
	s := f.sidecar(t, "SSE_ROUTE_CONFIG_RETRY=1s")
	events := f.events(t, s)
	eventually(t, "the watch", func() bool { return s.connects() == 1 })
	put("/other", "x")
	n := 0
	set := func() {
		t.Helper()
		put("/config/a", fmt.Sprint("v", n))
		n++
	}
	come := func() {
		t.Helper()
		events.until(t, fmt.Sprintf(`data: {"key":"/config/a","value":"v%d"}`, n-1))
		for i := range n {
			if got := strings.Count(events.got.String(), fmt.Sprintf(`data: {"key":"/config/a","value":"v%d"}`, i)); got != 1 {
				t.Fatalf("v%d came %d times: %q", i, got, events.got.String())
			}
		}
		if got := events.got.String(); strings.Contains(got, "stream.gap") || strings.Contains(got, "before") || strings.Contains(got, "/other") {
			t.Fatalf("%q", got)
		}
	}
	// Cut before anything has come, cut at any moment, and etcd killed.
	way.sever(false)
	set()
	come()
	for range 5 {
		set()
		way.sever(false)
		set()
	}
	come()
	etcd.kill()
	etcd.up(t, "/health")
	set()
	come()
	call("kv/deleterange", fields{"key": base("/config/a")})
	events.next(t, "DELETE", `{"key":"/config/a","value":""}`)

	// What is compacted before it was read.
	var at struct{ Header struct{ Revision string } }
	connects := s.connects()
	way.close(true)
	for range 3 {
		put("/config/b", "compacted")
	}
	if err := json.Unmarshal([]byte(call("kv/range", fields{"key": base("x")})), &at); err != nil {
		t.Fatal(err)
	}
	call("kv/compaction", fields{"revision": at.Header.Revision})
	way.close(false)
	events.gap(t)
	eventually(t, "the new watch", func() bool { return s.connects() == connects+2 })
	put("/config/b", "after")
	events.next(t, "PUT", `{"key":"/config/b","value":"after"}`)

	// A store that begins anew, with lower revisions.
	etcd.kill()
	etcd.start = start(t.TempDir())
	etcd.up(t, "/health")
	events.gap(t)
	eventually(t, "the new watch", func() bool { return s.connects() == connects+4 })
	put("/config/c", "anew")
	events.next(t, "PUT", `{"key":"/config/c","value":"anew"}`)

	// Who may not read it.
	call("auth/user/add", fields{"name": "root", "password": "p"})
	call("auth/user/grant", fields{"user": "root", "role": "root"})
	call("auth/enable", nil)
	f.refusesSoon(t, "403")
}
