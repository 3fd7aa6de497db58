// The same things done with the browser's own WebSocket and with the tunnelled one: what either says is written down, and
// must be the same. Messages of errors and isTrusted are the browser's own.
import Module, { WebSocket as Tunnelled } from "/_sidestream/websocket.mjs";

const Native = window.WebSocket;
const address = location.origin.replace("http", "ws");
const plainError = error => error.constructor.name + " " + error.name;

const attempt = f => {
  try {
    return f();
  } catch (error) {
    return plainError(error);
  }
};

const show = async data => {
  if (typeof data === "string") return data.length > 200 ? "long " + data.length : data;
  const bytes = new Uint8Array(data instanceof Blob ? await data.arrayBuffer() : data);
  return data.constructor.name + (data instanceof Blob ? " '" + data.type + "'" : "") + " " + bytes;
};

// WebKit (2.50.6) adds the frames' own bytes to bufferedAmount once it is closing, against the standard.
const webkit = /AppleWebKit/.test(navigator.userAgent) && !/Chrome/.test(navigator.userAgent);
const state = (ws, amount = webkit && ws.readyState > 1 ? "" : ws.bufferedAmount) => [ws.readyState, ws.protocol, ws.extensions && "", amount].join("/");

// track writes down all events of ws in order, and the state seen by their listeners, but for bufferedAmount: how fast it
// falls is another matter.
function track(ws, log) {
  const shown = [];
  for (const type of ["open", "message", "error", "close"]) {
    ws.addEventListener(type, event => {
      const line = [type, state(ws, ""), event.constructor.name, event.bubbles, event.cancelable, event.target === ws, event.currentTarget === ws, event.eventPhase];
      if (type === "close") line.push(event.code, event.reason, event.wasClean);
      if (type === "message") {
        line.push(event.origin, event.lastEventId, event.source, event.ports.length);
        const at = log.push("") - 1;
        shown.push(show(event.data).then(text => log[at] = [...line, text].join(" ")));
        return;
      }
      log.push(line.join(" "));
    });
  }
  return () => Promise.all(shown);
}

const once = (target, type) => new Promise(done => target.addEventListener(type, done, { once: true }));
const tick = () => new Promise(done => setTimeout(done, 50));

const tests = {
  async statics(W, log) {
    for (const name of ["CONNECTING", "OPEN", "CLOSING", "CLOSED"]) log.push([name, W[name], W.prototype[name]].join(" "));
    log.push(W.name, W.length, typeof W, attempt(() => W("/echo")), attempt(() => W.prototype.url), attempt(() => W.prototype.send("x")),
      attempt(() => W.prototype.onopen), attempt(() => W.prototype.close.call({})), String(Object.create(W.prototype)));
    log.push(W.prototype.constructor === W, W.prototype instanceof EventTarget, W.prototype.close.length, W.prototype.send.length);
    const members = [];
    for (const name in W.prototype) members.push(name);
    log.push(members.filter(name => name in Native.prototype).sort().join());
  },

  // How each member is declared (Web IDL), and what of it a page can change.
  async members(W, log) {
    const tell = (object, name) => {
      const d = Object.getOwnPropertyDescriptor(object, name);
      return d && [String(name), "value" in d ? typeof d.value === "function" ? d.value.name + " " + d.value.length : d.value : typeof d.get + " " + typeof d.set, d.writable, d.enumerable, d.configurable].join(" ");
    };
    for (const name of ["CONNECTING", "OPEN", "CLOSING", "CLOSED", "prototype", "name", "length"]) log.push(name === "prototype" ? Object.getOwnPropertyDescriptor(W, name).writable : tell(W, name));
    const names = ["CONNECTING", "OPEN", "CLOSING", "CLOSED", "url", "readyState", "bufferedAmount", "extensions", "protocol", "binaryType",
      "onopen", "onmessage", "onerror", "onclose", "send", "close", Symbol.toStringTag];
    for (const name of names) log.push(tell(W.prototype, name));
    log.push(Object.getPrototypeOf(W) === EventTarget, Object.getPrototypeOf(W.prototype) === EventTarget.prototype);
    const ws = new W("/echo");
    for (const object of [W, W.prototype, ws]) {
      log.push(attempt(() => (object.OPEN = 7, "assigned")), object.OPEN, attempt(() => delete object.OPEN));
      log.push(object === ws || attempt(() => (Object.defineProperty(object, "OPEN", { value: 7 }), "defined")), object.OPEN);
    }
    log.push(attempt(() => (ws.readyState = 7, "assigned")), ws.readyState, Object.prototype.toString.call(ws));
    for (const name of ["readyState", "url", "bufferedAmount", "protocol", "binaryType", "send", "onclose"]) {
      const own = Object.getOwnPropertyDescriptor(W.prototype, name);
      log.push(name + " " + delete W.prototype[name] + " " + ws[name] + " " + (name in ws));
      Object.defineProperty(W.prototype, name, own);
    }
    await once(ws, "open");
    ws.close();
    await once(ws, "close");
  },

  // What was sent is the network's once its echo is there.
  async buffered(W, log) {
    const ws = new W("/echo");
    await once(ws, "open");
    ws.send("x".repeat(10));
    log.push(ws.bufferedAmount);
    await once(ws, "message");
    log.push(ws.bufferedAmount);
    for (let n = 0; n < 20; n++) {
      ws.send("y".repeat(1000));
      await once(ws, "message");
      log.push(ws.bufferedAmount);
    }
    ws.close();
  },

  async constructors(W, log) {
    const cases = [[], ["::"], ["ftp://h/echo"], ["/echo#f"], ["/echo#"], [address + "/echo#f"], ["/echo", "a b"], ["/echo", ""], ["/echo", [""]],
      ["/echo", ["a", "a"]], ["/echo", ["é"]], ["/echo", ["a,b"]], ["/echo", "a@b"], ["/echo", { toString() { throw new RangeError(); } }],
      [{ toString() { throw new RangeError(); } }], ["/echo", [Symbol()]], [Symbol()]];
    for (const args of cases) log.push(attempt(() => { new W(...args).close(); return "made"; }));
    for (const url of ["/echo?a=1", "echo", new URL("/echo", address), address + "/echo?", address + "/./echo/../echo", "//" + location.host + "/echo", location.origin + "/echo?é=%7e"]) {
      const ws = new W(url);
      log.push([ws.url, state(ws), ws.binaryType, ws instanceof W, ws instanceof EventTarget, String(ws), ws.constructor === W,
        Object.keys(ws), ws.onopen, ws.OPEN].join(" "));
      ws.close();
    }
  },

  async echo(W, log) {
    const ws = new W(address + "/echo"), shown = track(ws, log);
    log.push(attempt(() => ws.send("early")), attempt(() => ws.send()));
    await once(ws, "open");
    ws.binaryType = "nonsense";
    log.push(ws.binaryType);
    const odd = { toString: () => "an object" };
    const source = new Uint8Array([9, 1, 2, 3, 9]);
    const sent = ["text", "", "event: stream.busy", "a\rb\nc\r\nd\0e\u2028\u{1f600}", "\ud800 lone \udc00", null, undefined, 5, odd, ["x", "y"], "long ".repeat(60000),
      source.buffer, source.subarray(1, 4), new DataView(source.buffer, 2, 2), new Uint16Array([258]), new ArrayBuffer(0),
      new Blob(["blob", source]), new File(["file"], "f"), new Blob([]), "after the blobs"];
    const messages = [];
    ws.addEventListener("message", () => messages.push(0));
    for (const one of sent) {
      ws.send(one);
      log.push(ws.bufferedAmount);
    }
    source.fill(0);
    log.push(attempt(() => ws.send(Symbol())), attempt(() => ws.send()));
    while (messages.length < sent.length) await tick();
    while (ws.bufferedAmount) await tick();
    log.push(state(ws));
    ws.binaryType = "arraybuffer";
    log.push(ws.binaryType);
    for (const one of [new Uint8Array([0, 255]), new Blob(["blob"]), "text"]) ws.send(one);
    while (messages.length < sent.length + 3) await tick();
    while (ws.bufferedAmount) await tick();
    ws.close(3001, "bye é");
    log.push(state(ws));
    ws.send("not sent");
    ws.close(1000);
    log.push(state(ws));
    await once(ws, "close");
    ws.send(new Uint8Array(10));
    log.push(state(ws));
    ws.close();
    await shown();
    await tick();
  },

  async closing(W, log) {
    const ws = new W("/echo");
    track(ws, log);
    for (const args of [[999], [1001], [2999], [5000], [NaN], [Infinity], ["x"], [null], [1000, "é".repeat(62)], [1000.4, "y".repeat(124)], [Symbol()]])
      log.push(attempt(() => { ws.close(...args); return "closes"; }));
    ws.close();
    log.push(state(ws));
    await once(ws, "close");
    for (const [what, args] of [["close:4001:goodbye", []], ["close:1000:", []], ["close", []], ["terminate", []], ["", []], ["", [1000]], ["", [4999, "x".repeat(123)]], ["", [3000.5]]]) {
      const ws = new W("/echo"), log2 = [];
      track(ws, what === "terminate" ? [] : log2);
      ws.addEventListener("close", event => log2.push([event.code, event.reason, event.wasClean, ws.readyState].join()));
      await once(ws, "open");
      if (what) ws.send(what);
      else log2.push(attempt(() => ws.close(...args)), state(ws));
      await once(ws, "close");
      await tick();
      log.push(what + " " + args + ": " + log2.join(", "));
    }
    const many = new W("/echo");
    await once(many, "open");
    for (let n = 0; n < 100; n++) many.send("flushed " + n);
    many.send("close:4002:all came");
    many.close();
    log.push((await once(many, "close")).code >= 1000);
  },

  // A server that chooses none of the subprotocols is no failure to Firefox, against the standard, so that is left out. A
  // connection that is cut after it was open is no error, only a close with 1006.
  async refused(W, log) {
    for (const [path, protocols] of [["/nothing", []], ["/echo?later=die", []]]) {
      const ws = new W(path, protocols), events = [];
      if (path !== "/nothing") ws.onopen = () => ws.send("terminate");
      for (const type of ["open", "error", "close"]) ws.addEventListener(type, event => events.push(type + " " + event.code + " " + event.wasClean + " " + ws.readyState));
      await once(ws, "close");
      await tick();
      log.push(path + ": " + events.join());
    }
  },

  async protocols(W, log) {
    for (const protocols of ["b", ["a", "b"], ["b", "c"], new Set(["x", "b"])]) {
      const ws = new W("/echo", protocols);
      log.push("<" + ws.protocol + ">");
      await once(ws, "open");
      log.push(ws.protocol);
      ws.close();
    }
  },

  async handlers(W, log) {
    const ws = new W("/echo");
    const say = text => function (event) { log.push(text + " " + event.type + " " + (this === ws)); };
    ws.addEventListener("message", say("first"));
    ws.onmessage = say("replaced");
    ws.addEventListener("message", say("third"));
    ws.onmessage = say("handler");
    log.push(typeof ws.onmessage, ws.onopen, attempt(() => (ws.onopen = 5, ws.onopen)), attempt(() => (ws.onclose = {}, typeof ws.onclose)));
    ws.onclose = null;
    ws.addEventListener("message", { handleEvent: () => log.push("object") });
    ws.addEventListener("message", say("once"), { once: true });
    const removed = say("removed");
    ws.addEventListener("message", removed);
    ws.removeEventListener("message", removed);
    await once(ws, "open");
    ws.send("a");
    await once(ws, "message");
    ws.onmessage = null;
    log.push("moved to the end");
    ws.onmessage = say("handler");
    ws.send("b");
    await once(ws, "message");
    await tick();
    let seen = 0;
    ws.onmessage = () => {
      seen++;
      ws.close(); // no message comes behind it
      log.push(ws.readyState);
    };
    for (let n = 0; n < 50; n++) ws.send("x" + n);
    await once(ws, "close");
    log.push(seen);
  },

  async subclass(W, log) {
    class Sub extends W {
      constructor(path) {
        super(path, ["b"]);
        this.own = [];
        this.addEventListener("message", event => this.own.push(event.data));
      }
      send(data) {
        super.send("sub " + data);
      }
      get readyState() {
        return super.readyState + 10;
      }
    }
    const ws = new Sub("/echo");
    log.push(ws instanceof Sub, ws instanceof W, ws.constructor.name, ws.readyState, Sub.OPEN);
    await once(ws, "open");
    ws.send("x");
    await once(ws, "message");
    log.push(ws.own.join(), ws.readyState, ws.protocol);
    log.push(Reflect.construct(W, ["/echo"], Sub) instanceof Sub, new W("/echo") instanceof Sub, {} instanceof W);
    ws.close();
    await once(ws, "close");
    // As libraries do it that watch over all WebSockets.
    const send = W.prototype.send;
    W.prototype.send = function (data) { log.push("watched " + data); return send.call(this, data); };
    const watched = new W("/echo");
    await once(watched, "open");
    watched.send("y");
    log.push((await once(watched, "message")).data);
    W.prototype.send = send;
    watched.close();
  },

  async order(W, log) {
    const ws = new W("/echo"), seen = [];
    log.push(ws.readyState);
    ws.onopen = () => Promise.resolve().then(() => seen.push("microtask of open"));
    ws.onmessage = ({ data }) => {
      seen.push(data);
      Promise.resolve().then(() => seen.push("microtask of " + data));
    };
    await once(ws, "open");
    for (let n = 0; n < 5; n++) ws.send("m" + n);
    while (seen.length < 11) await tick();
    log.push(seen.join());
    ws.close();
  },
};

const kept = WebSocket === Native; // a module replaces nothing
class Foreign extends Tunnelled {} // what is not the tunnel's is native
const foreign = [attempt(() => new Foreign("ftp://x")), new Foreign("/count") instanceof Foreign, new Tunnelled("/count") instanceof Tunnelled,
  performance.getEntriesByType("resource").some(entry => entry.name.includes("/tunnel"))];

window.outcome = null;
(async () => {
  const differ = [];
  let lines = 0;
  for (const [name, test] of Object.entries(tests)) {
    const logs = await Promise.all([Native, Tunnelled].map(async W => {
      const log = [];
      try {
        await Promise.race([test(W, log), new Promise((_, fail) => setTimeout(fail, 20000, new Error("too long")))]);
      } catch (error) {
        log.push("failed: " + error + error.stack);
      }
      return log.map(String);
    }));
    lines += logs[0].length;
    if (logs[0].some(line => line.startsWith("failed"))) differ.push(name + " native " + logs[0].join("\n"));
    for (let i = 0; i < Math.max(logs[0].length, logs[1].length); i++) {
      if (logs[0][i] !== logs[1][i]) differ.push(`${name} ${i}:\n  native    ${logs[0][i]}\n  tunnelled ${logs[1][i]}`);
    }
  }
  window.outcome = { differ, lines, kept: kept && WebSocket === Native && Module === Tunnelled, foreign: foreign.join() };
})();
