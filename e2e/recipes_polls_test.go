//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sidestream/e2e/authority"
)

// Services with which an installation watches itself, each of them the real one.

// webConfig has the user sidestream with the password YOUR-PASSWORD, for Prometheus and Alertmanager.
const webConfig = "basic_auth_users:\n  sidestream: $2y$04$T8LnZB2FnfU3XkHzrrS53uI3l8r/mbPeio76yqK55rvFopJxBvw4O\n"

// files writes files into a new folder.
func files(t *testing.T, texts map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range texts {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asked makes a request with what authorizes it, and reads the answer into out.
func asked(t *testing.T, client *http.Client, method, url string, header http.Header, with, out any) {
	t.Helper()
	text, err := json.Marshal(with)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s %v", method, url, resp.Status, answer, err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(answer, out); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

func basic(user, password string) http.Header {
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(user, password)
	return req.Header
}

// polled waits until a route has been polled n times more in vain.
func (s *sidecar) polled(t *testing.T, route string, n int) {
	t.Helper()
	name := `sidestream_polls_total{outcome="unchanged",route="` + route + `"}`
	before := metric(t, s, name)
	eventually(t, "polls", func() bool { return metric(t, s, name) >= before+float64(n) })
}

func TestRecipePrometheus(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "queue_length 1\n")
	}))
	defer target.Close()
	dir := files(t, map[string]string{
		"web.yml": webConfig,
		"prometheus.yml": "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\nrule_files: [rules.yml]\n" +
			"scrape_configs:\n- {job_name: shop, static_configs: [{targets: ['" + target.Listener.Addr().String() + "']}]}\n",
		"rules.yml": "groups:\n- name: g\n  rules:\n  - {alert: Always, expr: 'vector(time())', annotations: {summary: it is so}}\n" +
			"  - {alert: Down, expr: up == 0, labels: {severity: page}}\n",
	})
	p := &server{addr: freeAddr(t)}
	p.start = func() *process {
		return launch(t, nil, "prometheus", "--config.file="+dir+"/prometheus.yml", "--web.config.file="+dir+"/web.yml", "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+p.addr, "--log.level=warn")
	}
	p.process = p.start()
	ready := func() {
		t.Helper()
		eventually(t, "Prometheus", func() bool { return status("http://sidestream:YOUR-PASSWORD@"+p.addr+"/-/ready") == http.StatusOK })
	}
	ready()
	f := &feedServer{recipe: findRecipe(t, "prometheus"), addr: p.addr}
	s := f.sidecar(t, "SSE_ROUTE_ALERTS_EVERY=50ms", "SSE_ROUTE_QUERY_EVERY=50ms")
	alerts, up := f.events(t, s), ask(t, s.addr, "HTTP/1.0", "/events/prometheus/up", "retry: ")
	const always = `{"activeAt":"`
	is := func(value string) string {
		return `data: [{"metric":{"__name__":"up","instance":"` + target.Listener.Addr().String() + `","job":"shop"},"value":"` + value + `"}]`
	}
	alerts.until(t, always)
	alerts.until(t, `"annotations":{"summary":"it is so"},"labels":{"alertname":"Always"},"state":"firing"}`)
	up.until(t, is("1"))

	// What the service answers goes on changing, and is no news.
	answer := func(path string) (all any) {
		asked(t, plain, "GET", "http://"+p.addr+"/api/v1/"+path, basic("sidestream", "YOUR-PASSWORD"), nil, &all)
		return all
	}
	for route, path := range map[string]string{"alerts": "alerts", "query": "query?query=up"} {
		first := fmt.Sprint(answer(path))
		eventually(t, "another answer to "+path, func() bool { return fmt.Sprint(answer(path)) != first })
		s.polled(t, route, 10)
	}
	down.Store(true)
	up.until(t, is("0"))
	alerts.until(t, `"alertname":"Down","instance":"`)
	for name, events := range map[string]*stream{"alerts": alerts, "up": up} {
		want := map[string]int{"alerts": 2, "up": 2}[name]
		got := events.got.String()
		if n := strings.Count(got, "\ndata: ["); n != want && !(n == want+1 && strings.Contains(got, "data: []")) { // before the first evaluation there is nothing
			t.Errorf("%s: %d events, want %d: %q", name, n, want, got)
		}
	}

	// Polls that fail have lost nothing.
	alerts.got.Reset()
	up.got.Reset()
	p.kill()
	failed := func() float64 { return metric(t, s, `sidestream_polls_total{outcome="failed",route="query"}`) }
	eventually(t, "a poll to fail", func() bool { return failed() > 0 })
	down.Store(false)
	p.process = p.start()
	ready()
	up.until(t, is("1"))
	down.Store(true)
	up.until(t, is("0"))
	s.hides(t, "YOUR-PASSWORD", "c2lkZXN0cmVhbTpZT1VSLVBBU1NXT1JE")
	if all := alerts.got.String() + up.got.String(); strings.Contains(all, "stream.gap") {
		t.Errorf("a gap: %q", all)
	}
	f.refuses(t, 401, "SSE_SECRET_PROMETHEUS=sidestream:wrong")
	f.path = "/events/prometheus/up"
	f.refuses(t, 400, "SSE_ROUTE_QUERY_FROM=http://"+p.addr+"/api/v1/query?query=up%7B")
}

func TestRecipeAlertmanager(t *testing.T) {
	t.Parallel()
	dir := files(t, map[string]string{"web.yml": webConfig, "alertmanager.yml": "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"})
	a := &server{addr: freeAddr(t)}
	a.start = func() *process {
		return launch(t, nil, "prometheus-alertmanager", "--config.file="+dir+"/alertmanager.yml", "--web.config.file="+dir+"/web.yml", "--storage.path="+dir+"/data",
			"--web.listen-address="+a.addr, "--cluster.listen-address=", "--log.level=warn")
	}
	a.process = a.start()
	ready := func() {
		t.Helper()
		eventually(t, "Alertmanager", func() bool { return status("http://sidestream:YOUR-PASSWORD@"+a.addr+"/-/ready") == http.StatusOK })
	}
	ready()
	authorized := basic("sidestream", "YOUR-PASSWORD")
	alert := func(name, summary string) {
		t.Helper()
		asked(t, plain, "POST", "http://"+a.addr+"/api/v2/alerts", authorized, []fields{{"labels": fields{"alertname": name}, "annotations": fields{"summary": summary}, "startsAt": "2026-11-29T00:00:00Z"}}, nil)
	}
	updated := func(name string) string {
		var all []struct {
			UpdatedAt string
			Labels    map[string]string
		}
		asked(t, plain, "GET", "http://"+a.addr+"/api/v2/alerts", authorized, nil, &all)
		for _, one := range all {
			if one.Labels["alertname"] == name {
				return one.UpdatedAt
			}
		}
		return ""
	}
	alert("Down", "it is")
	f := &feedServer{recipe: findRecipe(t, "alertmanager"), addr: a.addr}
	s := f.sidecar(t, "SSE_ROUTE_ALERTS_EVERY=50ms")
	events := f.events(t, s)
	events.until(t, "event: snapshot\ndata: [")
	events.until(t, `"alertname":"Down"`)
	events.until(t, "\n\n")
	events.got.Reset()

	// Prometheus says it again and again: no news.
	for range 3 {
		at := updated("Down")
		alert("Down", "it is")
		eventually(t, "the alert to be updated", func() bool { now := updated("Down"); return now != at && now != "" })
		s.polled(t, "alerts", 5)
	}
	alert("Slow", "very")
	events.until(t, `"alertname":"Slow"`)
	if got := events.got.String(); strings.Count(got, "\ndata: ") != 1 || !strings.Contains(got, "event: patch\ndata: [{\"op\":\"add\",") {
		t.Errorf("%q", got)
	}
	alert("Down", "worse")
	events.until(t, `"value":"worse"`)
	a.kill()
	eventually(t, "a poll to fail", func() bool { return metric(t, s, `sidestream_polls_total{outcome="failed",route="alerts"}`) > 0 })
	a.process = a.start() // which has forgotten them, as Prometheus says them again
	ready()
	events.until(t, "event: snapshot\ndata: []\n") // which is shorter than a patch
	s.hides(t, "YOUR-PASSWORD", "c2lkZXN0cmVhbTpZT1VSLVBBU1NXT1JE")
	f.refuses(t, 401, "SSE_SECRET_ALERTMANAGER=sidestream:wrong")
	f.refuses(t, 400, "SSE_ROUTE_ALERTS_FROM=http://"+a.addr+"/api/v2/alerts?filter=%7B%7B")
}

func TestRecipeSyncthing(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	dir := files(t, map[string]string{"shared/file": "x", "config.xml": `<configuration version="36"><gui enabled="true" tls="false"><address>` + addr + `</address><apikey>YOUR-API-KEY</apikey></gui><options>
<listenAddress>tcp://127.0.0.1:0</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled>
<natEnabled>false</natEnabled><urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled><startBrowser>false</startBrowser></options></configuration>`})
	st := &server{addr: addr}
	st.start = func() *process {
		// Its monitor would have a process group of its own.
		return launch(t, []string{"STMONITORED=yes"}, "syncthing", "serve", "--no-browser", "--no-restart", "--no-upgrade", "--home="+dir)
	}
	st.up(t, "/")
	key := http.Header{"X-Api-Key": {"YOUR-API-KEY"}}
	scan := func() {
		t.Helper()
		asked(t, plain, "POST", "http://"+addr+"/rest/db/scan?folder=shop", key, nil, nil)
	}
	asked(t, plain, "PUT", "http://"+addr+"/rest/config/folders/shop", key, fields{"id": "shop", "path": filepath.Join(dir, "shared"), "fsWatcherEnabled": false, "rescanIntervalS": 0}, nil)
	way := severer{target: addr}
	f := &feedServer{recipe: findRecipe(t, "syncthing"), addr: way.listen(t)}
	s := f.sidecar(t)
	events := f.events(t, s)
	// The buffer of these types begins with the first who asks for them, so that a folder that is scanned may be so before.
	seen := func() {
		t.Helper()
		before := metric(t, s, `sidestream_polls_total{outcome="new",route="syncthing"}`)
		eventually(t, "an event", func() bool {
			scan()
			return metric(t, s, `sidestream_polls_total{outcome="new",route="syncthing"}`) > before
		})
		events.until(t, `"from":"scanning","to":"idle"}`)
	}
	seen()
	if got := events.got.String(); strings.Contains(got, "stream.gap") || !strings.Contains(got, "event: StateChanged\ndata: {\"data\":{") {
		t.Errorf("%q", got)
	}
	way.sever(false)
	events.gap(t)
	events.until(t, "event: StateChanged\n") // what it still has
	st.kill()
	events.gap(t)
	st.up(t, "/")
	seen()
	s.hides(t, "YOUR-API-KEY")
	f.refuses(t, 403, "SSE_SECRET_SYNCTHING=wrong")
}

func TestRecipeIcinga(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	ours := authority.New("icinga")
	pair := ours.Issue("localhost", "localhost", "127.0.0.1")
	addr := freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	dir := files(t, map[string]string{
		"certs/localhost.crt": string(pair.Cert), "certs/localhost.key": string(pair.Key), "certs/ca.crt": string(ours.PEM),
		"icinga2.conf": `const NodeName = "localhost"
const ZoneName = "localhost"
object Endpoint NodeName { }
object Zone ZoneName { endpoints = [ NodeName ] }
object ApiListener "api" {
  bind_host = "127.0.0.1"
  bind_port = ` + port + `
}
object ApiUser "sidestream" {
  password = "YOUR-PASSWORD"
  permissions = [ "events/StateChange", "status/query" ]
}
object ApiUser "test" {
  password = "test"
  permissions = [ "actions/process-check-result" ]
}
object CheckCommand "passive" {
  command = [ "/bin/true" ]
}
object Host "web" {
  check_command = "passive"
  enable_active_checks = false
  max_check_attempts = 1
}
object Service "http" {
  host_name = "web"
  check_command = "passive"
  enable_active_checks = false
  max_check_attempts = 1
}
`})
	roots := x509.NewCertPool()
	roots.AddCert(ours.Certificate)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: plain.Timeout}
	var daemon *process
	start := func() {
		t.Helper()
		daemon = launch(t, nil, "icinga2", "daemon", "-c", dir+"/icinga2.conf", "-DDataDir="+dir, "-DConfigDir="+dir, "-DLogDir="+dir+"/log", "-DCacheDir="+dir+"/cache", "-DSpoolDir="+dir+"/spool", "-DInitRunDir="+dir+"/run",
			"-DRunAsUser="+me.Username, "-DRunAsGroup="+group(t, me))
		eventually(t, "Icinga to listen", func() bool { return open(addr) })
	}
	for _, name := range []string{"log", "cache", "spool", "run"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	start()
	result := func(kind, filter string, state int) {
		t.Helper()
		asked(t, client, "POST", "https://"+addr+"/v1/actions/process-check-result", basic("test", "test"), fields{"type": kind, "filter": filter, "exit_status": state, "plugin_output": fmt.Sprint("out ", state)}, nil)
	}
	f := &feedServer{recipe: findRecipe(t, "icinga"), addr: addr}
	ca := "SSE_ROUTE_ICINGA_UPSTREAM_CA=" + dir + "/certs/ca.crt"
	s := f.sidecar(t, ca)
	events := f.events(t, s)
	eventually(t, "the status, then the events", func() bool { return s.connects() == 2 })
	state := func(n int) {
		t.Helper()
		result("Service", `host.name=="web"`, n)
		events.until(t, `"service":"http","state":`+fmt.Sprint(n)+`,`)
	}
	state(1)
	state(2)
	result("Host", `host.name=="web"`, 1)
	events.until(t, `"service":null,"state":1,`)
	if got := events.got.String(); strings.Contains(got, "stream.gap") || strings.Count(got, "\ndata: ") != 4 { // with stream.open's
		t.Errorf("%q", got)
	}
	daemon.killed()
	events.gap(t)
	connects := s.connects()
	start()
	eventually(t, "the status, then the events", func() bool { return s.connects() == connects+2 })
	state(0)
	s.hides(t, "YOUR-PASSWORD", "c2lkZXN0cmVhbTpZT1VSLVBBU1NXT1JE")
	f.refuses(t, 401, ca, "SSE_SECRET_ICINGA=sidestream:wrong")
	f.refusesSoon(t, "404", ca, "SSE_REFUSE_AFTER=1h", `SSE_ROUTE_ICINGA_BODY={"queue":"sidestream","types":["StateChange","Nonesuch"]}`)
	f.refuses(t, 404, ca, "SSE_ROUTE_ICINGA_FIRST=https://"+addr+"/v1/status?filter=false%26%26(((")
}

func group(t *testing.T, me *user.User) string {
	t.Helper()
	g, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return g.Name
}
