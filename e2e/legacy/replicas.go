package legacy

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"sidestream/e2e/ports"
)

// maxReplicas bounds what a demo starts.
const maxReplicas = 9

// comeBack is after how long a replica that was killed is started again.
const comeBack = 20 * time.Second

// Replicas are several sidecars that share a history in Redis, and a load balancer in front of them, which gives each request to the next
// one that is there. A page sees which, and can kill one. Its methods may be called from any goroutine.
type Replicas struct {
	store  *exec.Cmd
	secret string // by which replicas know each other
	dir    string
	server *http.Server
	proxy  *httputil.ReverseProxy
	stderr io.Writer
	alive  context.Context
	gone   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	all    []*replica
	next   int
	visits map[visit]int // by which replica it is served
}

// replica is one sidecar.
type replica struct {
	n           int
	addr, admin string
	env         []string
	process     *exec.Cmd
	alive       bool
}

// ErrWords is returned for words after demo that it does not know.
var ErrWords = errors.New("sidestream demo")

// demoArgs reads the words after demo: how many replicas it shall have.
func demoArgs(args []string) (replicas int, err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	n := flags.Int("replicas", 1, "")
	switch err := flags.Parse(args); {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrWords, err)
	case flags.NArg() > 0:
		return 0, fmt.Errorf("%w takes no arguments but -replicas, got %q", ErrWords, flags.Arg(0))
	case *n < 1 || *n > maxReplicas:
		return 0, fmt.Errorf("%w: -replicas is %d; write 1 to %d", ErrWords, *n, maxReplicas)
	}
	return *n, nil
}

// runReplicas runs as many sidecars as were asked for, as this program is one, in front of the demo, and a load balancer, until ctx is done.
// Without redis-server it is one, with a folder for its history.
func (d *Demo) runReplicas(ctx context.Context, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "sidestream-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &Replicas{dir: dir, secret: rand.Text(), visits: map[visit]int{}, stderr: stderr, alive: ctx}
	r.proxy = &httputil.ReverseProxy{Rewrite: r.choose, FlushInterval: -1, ModifyResponse: r.tell, ErrorHandler: unavailable}
	defer r.close()
	history, n, err := r.keep(d.Replicas, stdout)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", d.listen)
	if err != nil {
		return fmt.Errorf("SSE_LISTEN: %w; choose another address", err)
	}
	for i := range n {
		if err := r.add(i+1, append(d.Env, history)); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	r.server = &http.Server{Handler: r.handler(), ReadHeaderTimeout: 10 * time.Second}
	r.gone.Go(func() { r.server.Serve(l) }) // ends with close
	r.wait()
	front := "http://" + strings.Replace(l.Addr().String(), "[::]", "localhost", 1)
	d.Front(front, "http://"+r.all[0].admin, stdout)
	<-ctx.Done()
	return nil
}

// keep starts what the history is in, and returns its setting, and for how many replicas it is.
func (r *Replicas) keep(n int, stdout io.Writer) (setting string, _ int, err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		fmt.Fprintln(stdout, "\n  redis-server is not installed: one sidecar, whose history is in a folder.")
		return "SSE_HISTORY=file:" + filepath.Join(r.dir, "history"), 1, nil
	}
	addr, err := ports.Address()
	if err != nil {
		return "", 0, err
	}
	_, port, _ := net.SplitHostPort(addr)
	r.store = exec.Command(program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", r.dir, "--loglevel", "warning")
	r.store.SysProcAttr = apart()
	if err := r.store.Start(); err != nil {
		return "", 0, err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			break
		}
	}
	return "SSE_HISTORY=redis://" + addr, n, nil
}

// add starts one more replica.
func (r *Replicas) add(n int, env []string) (err error) {
	one := &replica{n: n}
	var peer string
	for _, addr := range []*string{&one.addr, &one.admin, &peer} {
		if *addr, err = ports.Address(); err != nil {
			return err
		}
	}
	one.env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GORACE=" + os.Getenv("GORACE")}, env...)
	one.env = append(one.env, "SSE_LISTEN="+one.addr, "SSE_ADMIN_LISTEN="+one.admin, "SSE_RESTART=0")
	if r.store != nil { // the old client may move onto the tunnel
		one.env = append(one.env, "SSE_PEER=http://"+peer, "SSE_PEER_LISTEN="+peer, "SSE_PEER_SECRET="+r.secret)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
	return r.start(one)
}

// start starts the process of one. mu is held.
func (r *Replicas) start(one *replica) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	one.process = exec.Command(self)
	one.process.Env, one.process.Stderr, one.process.SysProcAttr = one.env, r.stderr, apart()
	if err := one.process.Start(); err != nil {
		return err
	}
	one.alive = true
	process := one.process
	r.gone.Go(func() { // ends with the process
		process.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		one.alive = false
	})
	return nil
}

// wait returns when all are ready, or after ten seconds.
func (r *Replicas) wait() {
	for _, one := range r.all {
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && r.alive.Err() == nil; time.Sleep(20 * time.Millisecond) {
			if resp, err := http.Get("http://" + one.admin + "/readyz"); err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					break
				}
			}
		}
	}
}

func (r *Replicas) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /demo/replicas", r.show)
	mux.HandleFunc("POST /demo/replicas/{n}/kill", r.kill)
	mux.Handle("/", r.proxy)
	return mux
}

// choose gives a request to the next replica that is there.
func (r *Replicas) choose(p *httputil.ProxyRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.all[0]
	for range r.all {
		r.next = (r.next + 1) % len(r.all)
		if one = r.all[r.next]; one.alive {
			break
		}
	}
	p.SetURL(&url.URL{Scheme: "http", Host: one.addr})
	p.SetXForwarded()
	p.Out.Host = p.In.Host
	p.Out.Header.Set("X-Demo-Replica", strconv.Itoa(one.n)) // for tell
}

// visitor is the name of the cookie by which pages are told apart. It stays the same: the tunnel of a page whose cookies change ends.
const visitor = "demo"

// maxVisits bounds what is known of who is where.
const maxVisits = 1000

// visit is a stream of a page.
type visit struct{ who, path string }

// tell notes which replica a stream comes from, for the page, and has a browser bring a cookie from then on.
func (r *Replicas) tell(resp *http.Response) error {
	c, err := resp.Request.Cookie(visitor)
	switch kind := resp.Header.Get("Content-Type"); {
	case strings.HasPrefix(kind, "text/event-stream") && err == nil:
		n, _ := strconv.Atoi(resp.Request.Header.Get("X-Demo-Replica"))
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.visits) >= maxVisits {
			clear(r.visits)
		}
		r.visits[visit{c.Value, resp.Request.URL.Path}] = n
	case strings.HasPrefix(kind, "text/html") && err != nil:
		c := http.Cookie{Name: visitor, Value: rand.Text(), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
		resp.Header.Add("Set-Cookie", c.String())
	}
	return nil
}

func unavailable(w http.ResponseWriter, _ *http.Request, _ error) {
	http.Error(w, "this replica has gone; come again", http.StatusBadGateway)
}

// state is one replica in the body of GET /demo/replicas.
type state struct {
	N       int  `json:"n"`
	Alive   bool `json:"alive"`
	Leading int  `json:"leading"` // streams whose source runs there
	Clients int  `json:"clients"`

	Yours []string `json:"yours"` // paths of streams of the page that asks
}

func (r *Replicas) show(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	states := make([]state, len(r.all))
	admins := make([]string, len(r.all))
	for i, one := range r.all {
		states[i], admins[i] = state{N: one.n, Alive: one.alive, Yours: []string{}}, one.admin
	}
	if c, err := req.Cookie(visitor); err == nil {
		for v, n := range r.visits {
			if v.who == c.Value {
				states[n-1].Yours = append(states[n-1].Yours, strings.TrimPrefix(v.path, "/"))
			}
		}
	}
	r.mu.Unlock()
	for i := range states {
		if states[i].Alive {
			states[i].ask(admins[i])
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, states)
}

// ask fills in what the replica says of itself.
func (s *state) ask(admin string) {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get("http://" + admin + "/api/status")
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var status struct {
		Routes []struct {
			Clients int `json:"clients"`
		} `json:"routes"`
		History struct {
			Leading int `json:"leading"`
		} `json:"history"`
	}
	if json.NewDecoder(resp.Body).Decode(&status) == nil {
		s.Leading = status.History.Leading
		for _, rt := range status.Routes {
			s.Clients += rt.Clients
		}
	}
}

// kill ends a replica as a crash does. It is started again after a while.
func (r *Replicas) kill(w http.ResponseWriter, req *http.Request) {
	n, _ := strconv.Atoi(req.PathValue("n"))
	r.mu.Lock()
	defer r.mu.Unlock()
	if n < 1 || n > len(r.all) || req.Header.Get("Sec-Fetch-Site") == "cross-site" {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "there is no such replica"})
		return
	}
	one := r.all[n-1]
	if one.alive {
		one.process.Process.Kill()
		one.alive = false
		r.gone.Go(func() { r.again(one) }) // ends with alive
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Replicas) again(one *replica) {
	select {
	case <-r.alive.Done():
		return
	case <-time.After(comeBack):
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.start(one); err != nil {
		fmt.Fprintln(r.stderr, "demo:", err)
	}
}

// close ends all of it.
func (r *Replicas) close() {
	if r.server != nil {
		r.server.Close()
	}
	r.mu.Lock()
	for _, one := range r.all {
		if one.process.Process != nil {
			one.process.Process.Signal(os.Interrupt)
		}
	}
	r.mu.Unlock()
	r.gone.Wait()
	if r.store != nil && r.store.Process != nil {
		r.store.Process.Kill()
		r.store.Wait()
	}
}
