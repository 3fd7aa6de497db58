//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// model is a service of the shape of OpenAI's and Anthropic's APIs. Its answers go on one piece at a time, when the test says.
type model struct {
	*httptest.Server
	steps chan string // pieces of text; "" is the end
	mu    sync.Mutex
	heads []http.Header
	asks  []string
	gone  int
}

func startModel(t *testing.T) *model {
	t.Helper()
	m := &model{steps: make(chan string)}
	m.Server = httptest.NewServer(m)
	t.Cleanup(func() { m.CloseClientConnections(); m.Close() })
	return m
}

func (m *model) addr() string { return m.Listener.Addr().String() }

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html>")
		return
	}
	text, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	m.heads, m.asks = append(m.heads, r.Header), append(m.asks, string(text))
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.gone++
		m.mu.Unlock()
	}()
	if key := r.Header.Get("Authorization") + r.Header.Get("X-Api-Key"); strings.Contains(key, "wrong") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"type":"error","error":{"type":"authentication_error","message":"no such key"}}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Request-Id", "req_7")
	w.Header().Set("Request-Id", "req_7")
	say := func(event, data string) {
		if event != "" {
			fmt.Fprintf(w, "event: %s\n", event)
		}
		fmt.Fprintf(w, "data: %s\n\n", data)
		http.NewResponseController(w).Flush()
	}
	openAI := strings.HasSuffix(r.URL.Path, "/completions")
	if !openAI {
		say("message_start", `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`)
		say("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
		say("ping", `{"type":"ping"}`)
	}
	http.NewResponseController(w).Flush()
	for {
		var piece string
		select {
		case piece = <-m.steps:
		case <-r.Context().Done():
			return
		}
		quoted, _ := json.Marshal(piece)
		switch {
		case piece == "" && openAI:
			say("", `{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`)
			say("", "[DONE]")
			return
		case piece == "":
			say("content_block_stop", `{"type":"content_block_stop","index":0}`)
			say("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}`)
			say("message_stop", `{"type":"message_stop"}`)
			return
		case piece == "overloaded":
			say("error", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
			return
		case openAI:
			say("", `{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":`+string(quoted)+`},"finish_reason":null}]}`)
		default:
			say("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":`+string(quoted)+`}}`)
		}
	}
}

// runEnv routes both APIs to m.
func runEnv(m *model) []string {
	env := []string{"SSE_UPSTREAM=http://" + m.addr()}
	for name, path := range map[string]string{"CHAT": "/v1/chat/completions", "MESSAGES": "/v1/messages"} {
		for _, s := range []string{"PATH=" + path, "FROM=http://" + m.addr() + path, "METHOD=POST", "MODE=stream", "FORWARD=Authorization, X-Api-Key, Anthropic-Version, Cookie", "HEARTBEAT=100ms", "RETRY=100ms"} {
			env = append(env, "SSE_ROUTE_"+name+"_"+s)
		}
	}
	return env
}

// The official clients, unmodified: each piece is seen before the next one is said, so that nothing is held back; and the run is to be had again.
func TestRunOfficialClients(t *testing.T) {
	t.Parallel()
	for kind, last := range map[string]string{"openai": "stop", "anthropic": "end_turn"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			m := startModel(t)
			s := startSidecar(t, runEnv(m)...)
			c := startLLM(t, kind, "http://"+s.addr, "key-one")
			at, id, _ := strings.Cut(await(t, c, "open").Data, " ")
			if id != "req_7" || !strings.Contains(at, "?run=") {
				t.Errorf("knows %q %q", at, id)
			}
			for _, piece := range []string{"Hé", "llo\n", `"q"`} {
				m.steps <- piece
				if got := await(t, c, "message"); got.Data != piece {
					t.Fatalf("saw %q, want %q", got.Data, piece)
				}
			}
			m.steps <- ""
			if got := await(t, c, "message"); got.Data != last {
				t.Errorf("saw %q, want %q", got.Data, last)
			}
			await(t, c, "end")
			events := runEvents(t, "http://"+s.addr+at, "key-one")
			if text := strings.Join(events, ""); strings.Count(text, `llo\n`) != 1 || strings.Count(text, `H`) < 1 {
				t.Errorf("again: %s", text)
			}
			m.mu.Lock()
			if len(m.asks) != 1 || !strings.Contains(m.asks[0], `"stream":true`) || kind == "anthropic" && m.heads[0].Get("Anthropic-Version") == "" {
				t.Errorf("upstream got %q %v", m.asks, m.heads)
			}
			m.mu.Unlock()

			refused := startLLM(t, kind, "http://"+s.addr, "wrong")
			if got := await(t, refused, "error"); !strings.HasPrefix(got.Data, "AuthenticationError 401") || !strings.Contains(got.Data, "no such key") {
				t.Errorf("refused: %s", got.Data)
			}
			failing := startLLM(t, kind, "http://"+s.addr, "key-one")
			await(t, failing, "open")
			m.steps <- "overloaded"
			if got := await(t, failing, "error"); !strings.Contains(got.Data, "verloaded") {
				t.Errorf("an error in the stream: %s", got.Data)
			}
			// The model breaks off: no client takes that for the end.
			cut := startLLM(t, kind, "http://"+s.addr, "key-one")
			await(t, cut, "open")
			m.steps <- "a"
			await(t, cut, "message")
			m.CloseClientConnections()
			await(t, cut, "error")
		})
	}
}

// startLLM starts an official client.
func startLLM(t *testing.T, kind, url, key string) *client {
	t.Helper()
	return startScript(t, "clients/llm.mjs", kind, url, key)
}

// runEvents reads a run from its beginning to its end, as data of events.
func runEvents(t *testing.T, url, key string) (events []string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			events = append(events, data)
		}
	}
	if lines.Err() != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d, ended with %v", resp.StatusCode, lines.Err())
	}
	return events
}

// A page starts a run, is cut in the middle of it and reloaded, and goes on with a native EventSource: it loses and doubles nothing, however often, and
// the model is asked once.
func TestRunInABrowser(t *testing.T) {
	t.Parallel()
	m := startModel(t)
	s := startSidecar(t, runEnv(m)...)
	r := startRecorder(t, s.addr)
	c := startChromium(t)
	c.open(t, "http://"+r.addr()+"/")
	c.eval(t, `document.cookie = "sid=one"; window.got = []; window.ids = []; fetch("/v1/chat/completions", { method: "POST", body: "{}", headers: { "Content-Type": "application/json", "Idempotency-Key": "k" } }).then(async (r) => {
		window.at = r.headers.get("Content-Location");
		const read = r.body.pipeThrough(new TextDecoderStream()).getReader();
		for (let text = ""; ;) {
			text += (await read.read()).value;
			for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
				const block = text.slice(0, end);
				window.got.push(JSON.parse(block.match(/^data: (.*)$/m)[1]).choices[0].delta.content);
				window.ids.push(block.match(/^id: (.*)$/m)[1]);
			}
		}
	}).catch(() => {}); ""`)
	var want []string
	say := func() {
		want = append(want, fmt.Sprintf("piece %d", len(want)))
		m.steps <- want[len(want)-1]
	}
	sees := func() {
		t.Helper()
		eventually(t, "the page to have all", func() bool {
			var got []string
			json.Unmarshal([]byte(c.eval(t, "JSON.stringify(window.got)")), &got)
			if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
				t.Fatalf("the page has %q, want %q", got, want)
			}
			return len(got) == len(want)
		})
	}
	for range 3 {
		say()
		sees()
	}
	r.cut()
	say()
	// The page is loaded again: it knows where it was.
	var kept struct {
		At, ID string
		Got    []string
	}
	if err := json.Unmarshal([]byte(c.eval(t, `JSON.stringify({ At: window.at, ID: window.ids.at(-1), Got: window.got })`)), &kept); err != nil {
		t.Fatal(err)
	}
	c.open(t, "http://"+r.addr()+"/?again")
	text, _ := json.Marshal(kept.Got)
	c.eval(t, fmt.Sprintf(`window.got = %s; window.ended = "no"; window.source = new EventSource(%q); source.onmessage = (e) => {
		if (e.data !== "[DONE]") window.got.push(JSON.parse(e.data).choices[0].delta.content ?? "end");
	}; source.onerror = () => { if (source.readyState === 2) window.ended = "yes"; }; ""`, text, kept.At+"&lastEventId="+kept.ID))
	sees()
	for range 3 {
		say()
		sees()
		r.cut()
		say()
		sees()
	}
	m.steps <- ""
	want = append(want, "end")
	sees()
	eventually(t, "the EventSource to stop", func() bool { return c.eval(t, "window.ended") == "yes" })
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.asks) != 1 {
		t.Errorf("the model was asked %d times", len(m.asks))
	}
}

// A run is stopped upstream by DELETE, and not by who did not start it.
func TestRunIsStopped(t *testing.T) {
	t.Parallel()
	m := startModel(t)
	s := startSidecar(t, runEnv(m)...)
	c := startLLM(t, "openai", "http://"+s.addr, "key-one")
	at, _, _ := strings.Cut(await(t, c, "open").Data, " ")
	if got := deleted(t, "http://"+s.addr+at, "key-two"); got != 404 {
		t.Errorf("another's DELETE: %d", got)
	}
	if got := deleted(t, "http://"+s.addr+at, "key-one"); got != 204 {
		t.Errorf("its own: %d", got)
	}
	await(t, c, "error")
	eventually(t, "the model to be let go", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.gone == 1
	})
}

func deleted(t *testing.T, url, key string) int {
	t.Helper()
	req, err := http.NewRequest("DELETE", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
