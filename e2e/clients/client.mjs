// One SSE client of the three that pages and Node programs really use, told to show what it sees.
//
//	node client.mjs eventsource|polyfill|fetch|patched URL
//
// It prints one JSON line for each thing the library says: {"saw":"open"}, {"saw":"message","event","id","data"},
// {"saw":"error","state"}, {"saw":"end"}. After "end" it goes on for longer than any retry hint of the tests, to let
// the library ask again if it means to, and then ends.

const [kind, url] = process.argv.slice(2);
const names = ["message", "tick", "done", "stream.gap", "stream.refused", "stream.busy"];

// eventsource waits for its reconnection with a timer that does not keep Node running; this one does.
const running = setInterval(() => {}, 1000);

// The libraries write their own remarks with console.error; stdout is kept for the lines.
function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
  if (line.saw === "end") setTimeout(() => clearInterval(running), 7000);
}

function listen(source) {
  source.addEventListener("open", () => say({ saw: "open" }));
  source.addEventListener("error", () => say(source.readyState === 2 ? { saw: "end" } : { saw: "error", state: source.readyState }));
  for (const name of names) {
    source.addEventListener(name, e => say({ saw: "message", event: name, id: e.lastEventId, data: e.data }));
  }
}

const clients = {
  // A page with MODE=patch: after each event it shows the document that it has.
  async patched() {
    const { EventSource } = await import("eventsource");
    const { default: patch } = await import("fast-json-patch");
    const source = new EventSource(url);
    let doc;
    const show = e => say({ saw: "message", event: e.type, id: e.lastEventId, data: JSON.stringify(doc) });
    source.addEventListener("snapshot", e => { doc = JSON.parse(e.data); show(e); });
    source.addEventListener("patch", e => { doc = patch.applyPatch(doc, JSON.parse(e.data), true).newDocument; show(e); });
    source.addEventListener("stream.gap", show);
  },
  async eventsource() {
    const { EventSource } = await import("eventsource");
    listen(new EventSource(url));
  },
  async polyfill() {
    const { default: library } = await import("event-source-polyfill");
    listen(new library.EventSourcePolyfill(url));
  },
  async fetch() {
    // What the library takes from a page: timers, and whether the tab is hidden.
    globalThis.window = globalThis;
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    const { default: library } = await import("@microsoft/fetch-event-source");
    await library.fetchEventSource(url, {
      async onopen(response) { say({ saw: response.status === 200 ? "open" : "status", status: response.status }); },
      onmessage: m => say({ saw: "message", event: m.event || "message", id: m.id, data: m.data }),
      onerror: () => say({ saw: "error", state: 0 }),
      onclose: () => say({ saw: "end" }),
    });
  },
};

await clients[kind]();
