package legacy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Demo is the service, the readers that its page shows, and what a sidecar in front of it is configured with.
type Demo struct {
	Env      []string // of the sidecar
	Replicas int      // that were asked for

	listen  string // the front's address
	readers *Readers
	server  *http.Server
	stop    context.CancelFunc
	running sync.WaitGroup
}

// RunDemo runs the service, and one sidecar in front of it, which serve runs as env says until ctx is done, or several. args may hold -replicas N;
// only the sidecar's addresses are taken from environ. It fails when it cannot listen; the error is [ErrWords] where args are off.
func RunDemo(ctx context.Context, args, environ []string, stdout, stderr io.Writer, serve func(env []string, started func(public, operator string)) error) error {
	d, err := startDemo(args, environ)
	if err != nil {
		return err
	}
	defer d.Close()
	if d.Replicas > 1 {
		return d.runReplicas(ctx, stdout, stderr)
	}
	return serve(d.Env, func(public, operator string) { d.Front(public, operator, stdout) })
}

// startDemo starts a demo, which runs until it is closed.
func startDemo(args, environ []string) (*Demo, error) {
	replicas, err := demoArgs(args)
	if err != nil {
		return nil, err
	}
	service := New()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &Demo{Replicas: replicas, listen: ":8080", Env: append(Env(l.Addr().String()), "SSE_DRAIN=250ms"), readers: &Readers{Service: service}} // who has only looked shall not wait
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if name == "SSE_LISTEN" {
			d.listen = value
		}
		if strings.HasPrefix(name, "SSE_LISTEN") || strings.HasPrefix(name, "SSE_ADMIN_LISTEN") {
			d.Env = append(d.Env, v)
		}
	}
	d.server = &http.Server{Handler: d.readers.Handler(service.Handler()), ReadHeaderTimeout: 10 * time.Second}
	running, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.running.Go(func() { service.Run(running) }) // ends with stop
	d.running.Go(func() { d.server.Serve(l) })    // ends with the server
	return d, nil
}

// Front tells where the sidecar is, and its admin port, "" for nowhere, and where to look, to w.
func (d *Demo) Front(public, operator string, w io.Writer) {
	status := ""
	if operator != "" {
		status = operator + "/api/status"
	}
	d.readers.Front(public+"/prices", status)
	fmt.Fprintf(w, "\n  Open %s/ — the legacy service's page, through the sidecar. Ctrl-C ends it.\n\n", public)
}

// Close returns when all of it has ended.
func (d *Demo) Close() {
	d.stop()
	d.readers.Close()
	d.server.Close()
	d.running.Wait()
}
