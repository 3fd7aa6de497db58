// Many sources of one library at once, each of which is cut at another byte of its first answer.
//
//	node cuts.mjs eventsource|eventsource2|undici|polyfill|fetch|fetch-no-store URL FIRST LAST
//
// Each opens URL + "?cut=N". It prints one JSON line for each when it is done: {"cut":N,"saw":[[name,data],...]}: it has seen
// the event called "last" and a while has passed, or far more time than it needs.

const [kind, url, first, last] = process.argv.slice(2);
// event-source-polyfill leaves the promise of a body that was cut unhandled, at which Node would end.
process.on("unhandledRejection", () => {});
const names = ["message", "tick", "last", "stream.cut", "stream.gap", "stream.open", "stream.busy", "stream.refused"];

const libraries = {
  eventsource: async () => (await import("eventsource")).EventSource,
  eventsource2: async () => (await import("eventsource2")).default,
  undici: async () => (await import("undici")).EventSource,
  polyfill: async () => (await import("event-source-polyfill")).default.EventSourcePolyfill,
};

// fetcher listens with the library that is neither an EventSource nor an event target.
async function fetcher(options) {
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource } = (await import("@microsoft/fetch-event-source")).default;
  return (address, take) => {
    const ends = new AbortController();
    fetchEventSource(address, { ...options, signal: ends.signal, async onopen() {}, onmessage: m => take(m.event || "message", m.data), onerror() {} }).catch(() => {});
    return () => ends.abort();
  };
}

async function listener() {
  if (kind === "fetch") return fetcher({});
  if (kind === "fetch-no-store") return fetcher({ cache: "no-store" });
  const Source = await libraries[kind]();
  return (address, take) => {
    const source = new Source(address);
    for (const name of names) source.addEventListener(name, e => take(name, e.data));
    return () => source.close();
  };
}

const listen = await listener();
await Promise.all(Array.from({ length: last - first + 1 }, (_, i) => new Promise(done => {
  const cut = Number(first) + i, saw = [];
  const close = listen(url + "?cut=" + cut, (name, data) => {
    saw.push([name, data]);
    if (name === "last") setTimeout(end, 1000);
  });
  const limit = setTimeout(end, 40000);
  function end() {
    clearTimeout(limit);
    close();
    process.stdout.write(JSON.stringify({ cut, saw }) + "\n");
    done();
  }
})));
process.exit(0);
