//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRecipeAria2 runs aria2 itself, which answers our pings with errors.
func TestRecipeAria2(t *testing.T) {
	t.Parallel()
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "done") }))
	defer files.Close()
	f := &feedServer{recipe: findRecipe(t, "aria2"), addr: freeAddr(t)}
	_, port, _ := strings.Cut(f.addr, ":")
	f.process = launch(t, nil, "aria2c", "--enable-rpc", "--rpc-listen-port="+port, "--dir="+t.TempDir(), "--no-conf", "--disable-ipv6")
	call := func(method string, params ...any) (answer struct{ Result any }, err error) {
		text, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": "1", "method": method, "params": params})
		resp, err := http.Post("http://"+f.addr+"/jsonrpc", "application/json", bytes.NewReader(text))
		if err != nil {
			return answer, err
		}
		defer resp.Body.Close()
		return answer, json.NewDecoder(resp.Body).Decode(&answer)
	}
	eventually(t, "aria2 to listen", func() bool { _, err := call("aria2.getVersion"); return err == nil })

	plain := startSidecar(t, "SSE_ROUTE_X_PATH=/x", "SSE_ROUTE_X_FROM=ws://"+f.addr+"/jsonrpc", "SSE_ROUTE_X_IDLE=1s")
	all := ask(t, plain.addr, "HTTP/1.0", "/x", "retry: ")
	all.until(t, `"error":`) // it still does so

	s := f.sidecar(t, "SSE_ROUTE_ARIA2_IDLE=1s")
	events := f.events(t, s)
	for range 4 { // as many pings as the other route sends meanwhile
		all.next(t, "", `{"id":null,"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request."}}`)
	}
	added, err := call("aria2.addUri", []string{files.URL + "/file"})
	if err != nil {
		t.Fatal(err)
	}
	gid, _ := json.Marshal(map[string]any{"gid": added.Result})
	events.until(t, "event: onDownloadComplete\ndata: "+string(gid))
	got := events.got.String()
	if strings.Contains(got, "error") || strings.Contains(got, "stream.gap") || strings.Count(got, "data: ") > 3 || !strings.Contains(got, "event: onDownloadStart\ndata: "+string(gid)) {
		t.Errorf("%q", got)
	}
}
