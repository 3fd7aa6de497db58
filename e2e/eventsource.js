// What an EventSource has to do, beside the file of the Web Platform Tests (https://github.com/web-platform-tests/wpt, folder eventsource) that holds browsers to the same. The
// streams are the sidecar's: what a legacy service sends goes through it. eventsource_test.go has what each stream is made of.

const tests = {};
let Source; // the interface under test

function same(got, want, what) {
  const [g, w] = [JSON.stringify(got), JSON.stringify(want)];
  if (g !== w) throw new Error(`${what || "got"} ${g}, want ${w}`);
}

// heard resolves with the first n events of a stream, by the names that are listened to.
function heard(path, n, names = ["message"]) {
  return new Promise((resolve, reject) => {
    const source = new Source(path), all = [];
    for (const name of names) {
      source.addEventListener(name, (e) => {
        all.push([e.type, e.data]);
        if (all.length === n) source.close(), resolve(all);
      });
    }
    source.addEventListener("error", () => { if (source.readyState === 2) reject(new Error("it has ended after " + JSON.stringify(all))); });
  });
}

const once = (target, name) => new Promise((resolve) => target.addEventListener(name, resolve, { once: true }));

// What the bytes of a stream mean. Each is sent by the service as it is written in eventsource_test.go.
const bytes = {
  "format-field-data": ["", "\n", "test"],
  "event-data": ["one\ntwo", "", "last"],
  "format-bom": ["1", "3"],
  "format-bom-2": ["2", "3"],
  "format-comments": ["1\n2\n3\n4"],
  "format-field-parsing": [" 2\n1\n3\n\n4"],
  "format-field-unknown": ["first\n\nlast"],
  "format-leading-space": ["\ttab\n\n one"],
  "format-newlines": ["a\n\nb", "c"],
  "format-utf-8": ["ok… 😀"],
  "format-field-retry-empty": ["x"],
  "format-data-before-final-empty-line": ["whole"],
};
for (const [file, want] of Object.entries(bytes)) {
  tests[file] = async () => same((await heard("/es/" + file, want.length)).map((e) => e[1]), want);
}

tests["format-field-event"] = async () => same(await heard("/es/format-field-event", 2, ["message", "named"]), [["named", "a"], ["message", "b"]]);
tests["format-field-event-empty"] = async () => same(await heard("/es/format-field-event-empty", 1), [["message", "data"]]);

tests["interfaces"] = () => {
  for (const [name, value] of [["CONNECTING", 0], ["OPEN", 1], ["CLOSED", 2]]) same([Source[name], Source.prototype[name]], [value, value], name);
  const source = new Source("/es/quiet");
  for (const name of ["onopen", "onmessage", "onerror"]) {
    same(source[name], null, name);
    const f = () => {};
    source[name] = f;
    same(source[name] === f, true, name);
    source[name] = "nonsense";
    same(source[name], null, name + " of no function");
  }
  same(source instanceof EventTarget, true, "an EventTarget");
  source.close();
};

tests["eventsource-constructor-stringify"] = async () => {
  const source = new Source({ toString: () => "/es/quiet" });
  const open = await once(source, "open");
  same(Object.hasOwn(open, "data"), false, "data of open");
  source.close();
  for (const value of [1, null, undefined]) {
    const s = new Source(value);
    same(s.url, new URL(String(value), document.baseURI).href, "url");
    s.close();
  }
};

tests["eventsource-constructor-url-bogus"] = () => {
  try {
    new Source("https://[no address]/").close();
  } catch (e) {
    return same([e instanceof DOMException, e.name], [true, "SyntaxError"]);
  }
  throw new Error("it takes an address that is none");
};

tests["eventsource-constructor-empty-url"] = () => {
  const source = new Source("");
  same(source.url, document.baseURI, "url");
  source.close();
};

tests["eventsource-url"] = () => {
  const source = new Source("/es/../es/quiet?a=b#c");
  same(source.url, location.origin + "/es/quiet?a=b#c");
  source.close();
};

tests["eventsource-prototype"] = () => {
  Source.prototype.added = () => true;
  const source = new Source("/es/quiet");
  same(source.added(), true);
  delete Source.prototype.added;
  source.close();
};

tests["request-credentials"] = () => {
  for (const [init, want] of [[undefined, false], [{}, false], [{ withCredentials: false }, false], [{ withCredentials: true }, true]]) {
    const source = new Source("/es/quiet", init);
    same(source.withCredentials, want, JSON.stringify(init));
    source.close();
  }
};

tests["eventsource-readyState"] = async () => {
  const source = new Source("/es/quiet");
  same(source.readyState, 0, "at first");
  await once(source, "open");
  same(source.readyState, 1, "open");
  source.close();
  same(source.readyState, 2, "closed");
};

tests["eventsource-onopen"] = async () => {
  const source = new Source("/es/quiet");
  const open = await new Promise((resolve) => { source.onopen = resolve; });
  same([open.type, open.bubbles, open.cancelable, open.target === source], ["open", false, false, true]);
  source.close();
};

tests["eventsource-onmessage"] = async () => {
  const source = new Source("/es/one");
  const e = await new Promise((resolve) => { source.onmessage = resolve; });
  same([e.constructor === MessageEvent, e.type, e.data, e.origin, e.bubbles, e.cancelable, e.source, e.target === source],
    [true, "message", "one", location.origin, false, false, null, true]);
  source.close();
};

tests["eventsource-eventtarget"] = async () => {
  const source = new Source("/es/one");
  const got = await new Promise((resolve) => source.addEventListener("message", { handleEvent: (e) => resolve(e.data) }));
  same(got, "one");
  source.close();
};

tests["eventsource-close"] = async () => {
  const source = new Source("/es/many");
  let n = 0;
  await new Promise((resolve) => {
    source.onmessage = () => {
      if (++n === 2) source.close(), resolve();
    };
    source.onerror = () => { n = -1000; };
  });
  await heard("/es/many?later", 5); // which are as many as would have come
  same([n, source.readyState], [2, 2], "after close");
};

// A cut: error while it connects again, open, and what was missed.
tests["eventsource-reconnect"] = async () => {
  const source = new Source("/es/many?reconnect"), log = [], ids = [];
  await new Promise((resolve) => {
    source.onopen = () => log.push("open");
    source.onerror = (e) => log.push(`${e.type} ${source.readyState}`);
    source.onmessage = (e) => {
      ids.push([e.data, e.lastEventId]);
      if (e.data === "2") fetch("/cut").catch(() => {});
      if (log.length > 2 && ids.length >= 8) resolve();
    };
  });
  source.close();
  same(log.slice(0, 2), ["open", "error 0"]);
  same(log.at(-1), "open");
  same(ids.map((e) => e[0]), ids.map((_, i) => String(i + 1)), "each once");
  same(new Set(ids.map((e) => e[1])).size, ids.length, "ids");
};

tests["request-status-error"] = async () => {
  const source = new Source("/es/refused");
  source.onmessage = () => { throw new Error("a message"); };
  await once(source, "error");
  same(source.readyState, 2);
};

// A stream that is complete ends, and who comes back for more hears so.
tests["request-status-error, 204"] = async () => {
  const source = new Source("/done"), got = [];
  source.onmessage = (e) => got.push(e.data);
  await new Promise((resolve) => {
    source.onerror = () => { if (source.readyState === 2) resolve(); };
  });
  same(got, ["one"]);
};

tests["request-redirect"] = async () => same(await heard("/redirect", 1), [["message", "one"]]);

tests["dedicated-worker/eventsource-onmesage"] = async () => {
  const script = Source === window.EventSource ? "" : `importScripts("${location.origin}/_sidestream/events.js");`;
  const code = `${script} const s = new ${Source.name}("${location.origin}/es/one"); s.onmessage = (e) => { s.close(); postMessage(e.data); };`;
  const worker = new Worker(URL.createObjectURL(new Blob([code])));
  same((await once(worker, "message")).data, "one");
  worker.terminate();
};

// held runs every test with one interface, and returns what failed.
async function held(name) {
  Source = globalThis[name];
  const failed = [];
  for (const [file, test] of Object.entries(tests)) {
    let late;
    try {
      await Promise.race([test(), new Promise((_, reject) => { late = setTimeout(() => reject(new Error("nothing comes")), 20000); })]);
    } catch (e) {
      failed.push(`${file}: ${e.message}`);
    }
    clearTimeout(late);
  }
  return { failed, run: Object.keys(tests).length };
}

globalThis.outcome = null;
const name = new URLSearchParams(location.search).get("of");
held(name).then((o) => { globalThis.outcome = o; });
