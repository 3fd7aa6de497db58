//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sidestream/e2e/authority"
)

// fault is something that happens. do returns once it is over but for the links, which are healed after it.
type fault struct {
	name    string
	do      func(t *testing.T, w *world)
	can     func(w *world) bool // nil: anywhere
	forgets bool                // a folder may have lost what clients were given; they are told, and may get it again
}

// most is how long a fault lasts that nothing bounds.
const most = 3 * time.Second

// either is one of the links.
func (w *world) either() *link {
	if w.random.IntN(2) == 0 {
		return w.up
	}
	return w.down
}

// cuts cuts the link's connections again and again, each at any byte.
func (w *world) cuts(t *testing.T, l *link, how ...cutHow) {
	for range 1 + w.random.IntN(4) {
		l.cutAfter(func() cutHow { return how[l.random.IntN(len(how))] }, int64(1+w.random.IntN(6000)))
		w.passes(t, 100*time.Millisecond, 1200*time.Millisecond)
	}
}

// under has the weather turn for a while, and some connections be cut in it.
func under(name string, sky weather) fault {
	return fault{name: name, do: func(t *testing.T, w *world) {
		l := w.either()
		l.turn(sky)
		w.passes(t, most/4, most)
		if w.random.IntN(2) == 0 {
			l.cut(cutReset)
			w.passes(t, most/4, most)
		}
	}}
}

var linkFaults = []fault{
	{name: "clients are cut at any byte", do: func(t *testing.T, w *world) { w.cuts(t, w.down, cutReset, cutFin, cutHalf) }},
	{name: "the upstream is cut at any byte", do: func(t *testing.T, w *world) { w.cuts(t, w.up, cutReset, cutFin, cutHalf) }},
	{name: "clients' connections are half open", do: func(t *testing.T, w *world) { w.cuts(t, w.down, cutSilent, cutOnlyTo, cutOnlyBy) }},
	{name: "the upstream's connections are half open", do: func(t *testing.T, w *world) {
		w.cuts(t, w.up, cutSilent, cutOnlyTo, cutOnlyBy)
		w.passes(t, 0, 2*idle)
	}},
	{name: "nothing passes to the upstream", do: func(t *testing.T, w *world) {
		w.up.silence(true)
		w.passes(t, 0, 2*idle)
	}},
	{name: "nothing passes to clients", do: func(t *testing.T, w *world) {
		w.down.silence(true)
		w.passes(t, 0, most)
		if w.long && w.random.IntN(4) == 0 { // longer than a client may read nothing
			w.passes(t, 30*time.Second, 35*time.Second)
		}
	}},
	under("5 % of segments are lost", weather{loss: 0.05, torn: true}),
	under("segments take up to 200 ms, each another time", weather{jitter: 200 * time.Millisecond, torn: true}),
	under("300 ms on the way", weather{delay: 300 * time.Millisecond}),
	under("10 kbit/s", weather{rate: 1250}),
}

var processFaults = []fault{
	{name: "the sidecar is killed", do: func(t *testing.T, w *world) { kill(t, w.sidecar); w.passes(t, 0, most/6); w.startAgain(t) }},
	{name: "the sidecar is drained and started", do: func(t *testing.T, w *world) { w.sidecar.drain(t); w.startAgain(t) }},
	{name: "the sidecar stands still for less than its time-outs", do: func(t *testing.T, w *world) { w.stands(t, idle/20, idle/3) }},
	{name: "the sidecar stands still for longer than its time-outs", do: func(t *testing.T, w *world) { w.stands(t, idle, 2*idle) }},
}

func (w *world) startAgain(t *testing.T) {
	w.starts++
	w.sidecar.start(t)
}

func (w *world) stands(t *testing.T, some, most time.Duration) {
	w.sidecar.Process.Signal(syscall.SIGSTOP)
	w.passes(t, some, most)
	w.sidecar.Process.Signal(syscall.SIGCONT)
}

// moody sets how the service answers from now on, and most times cuts connections, so that it is asked again.
func (w *world) moody(t *testing.T, m mood) {
	w.service.set(m)
	if w.random.IntN(4) > 0 {
		w.service.cut()
	}
	w.passes(t, most/4, most)
	w.service.set(moodFine)
}

var serviceFaults = []fault{
	{name: "the service is killed and started", do: func(t *testing.T, w *world) {
		w.service.kill()
		w.passes(t, 0, most)
		w.service.start()
	}},
	{name: "the service flaps", do: func(t *testing.T, w *world) {
		for range 3 + w.random.IntN(5) {
			w.service.kill()
			w.passes(t, 0, most/10)
			w.service.start()
			w.passes(t, 0, most/6)
		}
	}},
	{name: "the service refuses connections", do: func(t *testing.T, w *world) {
		w.up.refuse(true)
		w.up.cut(cutReset)
		w.passes(t, most/4, most)
	}},
	{name: "the service answers with errors", do: func(t *testing.T, w *world) { w.moody(t, moodError) }},
	{name: "the service sends garbage", do: func(t *testing.T, w *world) { w.moody(t, moodGarbage) }},
	{name: "the service is slow", do: func(t *testing.T, w *world) { w.moody(t, moodSlow) }},
	{name: "the service accepts and does not answer", do: func(t *testing.T, w *world) {
		w.moody(t, moodSilent)
		w.service.cut()
	}},
}

var certificateFaults = []fault{
	{name: "the service changes its certificate", do: func(t *testing.T, w *world) {
		bad := []authority.Pair{
			w.ours.Issue("legacy again", "127.0.0.1"),
			authority.New("another").Issue("legacy", "127.0.0.1"),
			w.ours.IssueUntil(time.Now().Add(-time.Hour), "legacy", "127.0.0.1"),
			w.ours.Issue("legacy", "legacy.internal"),
		}[w.random.IntN(4)]
		w.service.certify(bad)
		w.service.cut()
		w.passes(t, most/4, most)
		w.service.certify(w.ours.Issue("legacy", "127.0.0.1"))
	}},
}

var nginxFaults = []fault{
	{name: "nginx is reloaded", do: func(t *testing.T, w *world) {
		for range 1 + w.random.IntN(3) {
			w.front.Process.Signal(syscall.SIGHUP)
			w.passes(t, 0, most)
		}
	}},
}

// limit changes how much of a resource the running sidecar may have, and returns how much it could.
func (w *world) limit(t *testing.T, resource int, soft uint64) (was uint64) {
	t.Helper()
	var now unix.Rlimit
	if err := unix.Prlimit(w.sidecar.Process.Pid, resource, nil, &now); err != nil {
		t.Fatal(err)
	}
	was = now.Cur
	now.Cur = soft
	if err := unix.Prlimit(w.sidecar.Process.Pid, resource, &now, nil); err != nil {
		t.Fatal(err)
	}
	return was
}

var limitFaults = []fault{
	{name: "no descriptor is left", do: func(t *testing.T, w *world) {
		open := int(w.sidecar.takes(t).descriptors)
		was := w.limit(t, unix.RLIMIT_NOFILE, uint64(w.random.IntN(open+8)))
		for range 1 + w.random.IntN(3) {
			w.either().cut(cutReset)
			w.passes(t, most/6, most/2)
		}
		w.limit(t, unix.RLIMIT_NOFILE, was)
	}},
	{name: "GOMEMLIMIT is reached", do: func(t *testing.T, w *world) { w.floods(t) }},
	{name: "a cgroup's memory is used up", can: func(w *world) bool { return w.long && hasMemoryGroup() }, do: func(t *testing.T, w *world) {
		leave := w.confine(t, uint64(2+w.random.IntN(20))<<20)
		w.floods(t)
		leave()
		alive := false
		eventually(t, "the sidecar to be killed, or to answer", func() bool {
			select {
			case <-w.sidecar.ended:
				return true
			default:
				alive = status("http://"+w.sidecar.admin+"/livez") == 200
				return alive
			}
		})
		if !alive {
			w.startAgain(t)
		}
	}},
}

// floods has so much be said that rings fill.
func (w *world) floods(t *testing.T) {
	some := 100
	if w.long {
		some = 300
	}
	for range 3 {
		for _, c := range w.clients {
			c.spring.say(some + w.random.IntN(2*some))
		}
		w.passes(t, 0, most/4)
	}
}

// memoryGroups is where cgroups of memory are made, of version 1.
const memoryGroups = "/sys/fs/cgroup/memory"

func hasMemoryGroup() bool {
	return unix.Access(filepath.Join(memoryGroups, "memory.limit_in_bytes"), unix.W_OK) == nil
}

// confine has the sidecar take so many bytes more than it has, or be killed, until leave.
func (w *world) confine(t *testing.T, most uint64) (leave func()) {
	t.Helper()
	group := filepath.Join(memoryGroups, fmt.Sprint("sidestream-", w.sidecar.Process.Pid, "-", w.random.Uint32()))
	set := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(group, 0o700); err != nil {
		t.Fatal(err)
	}
	set(filepath.Join(group, "memory.limit_in_bytes"), fmt.Sprint(most))
	set(filepath.Join(group, "cgroup.procs"), fmt.Sprint(w.sidecar.Process.Pid))
	return func() {
		os.WriteFile(filepath.Join(memoryGroups, "cgroup.procs"), fmt.Append(nil, w.sidecar.Process.Pid), 0o600) // it may be gone
		eventually(t, "the group to be removed", func() bool { return os.Remove(group) == nil })
	}
}

// namespaceFaults are of the links between the sidecar's network and that of the others.
var namespaceFaults = []fault{
	{name: "the link to the upstream is down", do: func(t *testing.T, w *world) { w.takeDown(t, 1) }},
	{name: "the link to clients is down", do: func(t *testing.T, w *world) { w.takeDown(t, 2) }},
}

// takeDown takes one end of the nth link down, for less than time-outs, or longer.
func (w *world) takeDown(t *testing.T, n int) {
	words := []string{"link", "set", fmt.Sprint(w.sidecar.within, "-", n)}
	if w.random.IntN(2) == 0 {
		words = []string{"-n", w.sidecar.within, "link", "set", fmt.Sprint("eth", n)}
	}
	ip(t, append(words, "down")...)
	w.passes(t, 0, 3*idle)
	ip(t, append(words, "up")...)
}

// ip runs the program of this name.
func ip(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(words, " "), err, out)
	}
}

// apart makes a network with two links: by the one what is in it reaches upstream, by the other it is reached itself.
func apart(t *testing.T) (name, upstream, itself string) {
	t.Helper()
	name = fmt.Sprint("sse", os.Getpid())
	address := func(n, end int) string { return fmt.Sprintf("10.213.%d.%d", os.Getpid()%120*2+n-1, end) } // two runs do not meet
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ip(t, "netns", "del", name) })
	for n := 1; n <= 2; n++ {
		here, there := fmt.Sprint(name, "-", n), fmt.Sprint("eth", n)
		ip(t, "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
		ip(t, "addr", "add", address(n, 1)+"/30", "dev", here)
		ip(t, "link", "set", here, "up")
		ip(t, "-n", name, "addr", "add", address(n, 2)+"/30", "dev", there)
		ip(t, "-n", name, "link", "set", there, "up")
	}
	ip(t, "-n", name, "link", "set", "lo", "up")
	return name, address(1, 1), address(2, 2)
}

var diskFaults = []fault{
	{name: "files may not grow", forgets: true, do: func(t *testing.T, w *world) {
		w.grows(t)
		w.writes(t)
	}},
	{name: "the disk is full", can: func(w *world) bool { return w.mounted }, forgets: true, do: func(t *testing.T, w *world) {
		ballast := filepath.Join(w.disk, "ballast")
		fill(t, ballast)
		w.passes(t, most/4, most)
		dead := w.random.IntN(3) == 0
		if dead {
			kill(t, w.sidecar)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if dead {
			w.startAgain(t)
		}
		w.writes(t)
	}},
}

// writes waits until events are written again, which is tried once a second.
func (w *world) writes(t *testing.T) {
	t.Helper()
	eventually(t, "the history to be written", func() bool {
		return strings.Contains(fetchText("http://"+w.sidecar.admin+"/metrics"), "\nsidestream_history_up 1\n")
	})
}

// grows has the sidecar's files grow no more for a while, in which it may be killed.
func (w *world) grows(t *testing.T) {
	was := w.limit(t, unix.RLIMIT_FSIZE, uint64(w.random.IntN(20000)))
	w.passes(t, most/4, most)
	if w.random.IntN(3) == 0 {
		kill(t, w.sidecar)
		w.startAgain(t)
		return
	}
	w.limit(t, unix.RLIMIT_FSIZE, was)
}

// fill writes a file until there is no room for more of it.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
