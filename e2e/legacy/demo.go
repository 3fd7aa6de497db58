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

	readers *Readers
	server  *http.Server
	stop    context.CancelFunc
	running sync.WaitGroup
}

// StartDemo starts a demo, which runs until it is closed. args may hold -replicas N; only the sidecar's addresses are taken from environ. It fails
// when it cannot listen; the error is [ErrWords] where args are off.
func StartDemo(args, environ []string) (*Demo, error) {
	replicas, err := demoArgs(args)
	if err != nil {
		return nil, err
	}
	service := New()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &Demo{Replicas: replicas, Env: append(Env(l.Addr().String()), "SSE_DRAIN=250ms"), readers: &Readers{Service: service}} // who has only looked shall not wait
	for _, v := range environ {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "SSE_LISTEN") || strings.HasPrefix(name, "SSE_ADMIN_LISTEN") {
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
