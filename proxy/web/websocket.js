// A WebSocket that travels over Server-Sent Events and POSTs, through Sidestream's tunnel. Its wire protocol is written
// down in proxy/tunnel. The rules of this file:
//
//   - The class stands for the native one: what is not under the tunnel's prefixes is constructed as a native WebSocket, and every
//     member first asks whose object it is. So instanceof, subclasses and the constants hold for either kind. Its prototype does
//     not inherit from the native one, so that a member that is deleted is gone, as it is from the native one.
//   - All tunnels of a page share one EventSource. When it is lost it is opened again with the last id; only when the
//     sidecar says that something is missing, or cannot be reached for 30 s, do the tunnels fail with 1006.
//   - Browsers do not notice a connection that dies without a word, so silence counts as a loss: heartbeats come as events.
//   - Where something on the way holds the events back they come as long polls, of which polls.js is: when nothing has come for a while, it is
//     loaded, and asked.
//   - Each tunnel has one POST with frames under way. Frames wait in a queue until they are answered with 204, and are
//     sent again, with the same numbers, when it is not known what became of them.
//   - Where the sidecar and the browser have it, upward.js sends the frames in one POST whose body goes on. It is given the tunnel. After a
//     deployment it may be of another version, so what it uses of it is not to change: see mangledShared, bufferedAmount, seq, page and body.
//   - What differs between a classic script (websocket.js) and a module (websocket.mjs) stands behind a line that says so.
//     What is served is made from this file: see web.go.

//! classic
(() => {
"use strict";
const tag = globalThis.document?.currentScript;
// A worker is not told which script it loads, so its own address stands for it.
const here = tag ? tag.src : location.href;
//! module
const tag = null;
const here = import.meta.url;
//! both
const prefixes = SIDESTREAM_PREFIXES; // the sidecar fills in the list
const mode = tag?.dataset.mode || new URL(here).searchParams.get("mode");
// What stands before /_sidestream/ is where the sidecar is, whatever a proxy between has put it under.
const base = new URL(here.includes("/_sidestream/") ? here.replace(/\/_sidestream\/[^]*/, "/") : "/", here).href;
const tunnelURL = base + "_sidestream/tunnel";
const site = new URL(base);

const Native = globalThis.WebSocket;
const remembered = "sidestream.websocket";
const mark = Symbol.for(remembered);
const patience = 30000; // after the last sign of life
const batch = 256 << 10;
const CONNECTING = 0, OPEN = 1, CLOSING = 2, CLOSED = 3;
const now = Date.now;
const encode = value => new TextEncoder().encode(value);
const text = value => `${value}`; // unlike String, it refuses Symbols
const wait = ms => new Promise(done => setTimeout(done, ms));

// tunnelled remembers for the session that a real WebSocket did not work. Storage may be forbidden.
let tunnelled = mode !== "fallback", polling;
try {
  const known = sessionStorage.getItem(remembered); // 1, or until when there are polls
  polling = known > now();
  tunnelled ||= known;
} catch {}
const remember = () => {
  tunnelled = true;
  try {
    sessionStorage.setItem(remembered, 1);
  } catch {}
};

// targetOf returns the part of a WebSocket's URL that is the sidecar's, without its first slash; undefined when it is to
// be a native one.
const targetOf = url => {
  const origin = url.origin.replace("ws", "http");
  if (origin !== site.origin && origin !== location.origin || url.href.includes("#") || url.username || url.password) return;
  if (!url.pathname.startsWith(site.pathname)) return;
  const path = url.pathname.slice(site.pathname.length - 1);
  if (prefixes.some(prefix => (path + "/").startsWith(prefix.replace(/\/$/, "") + "/"))) return path.slice(1) + url.search;
};

const parse = url => {
  try {
    const parsed = new URL(url, globalThis.document?.baseURI || location.href);
    parsed.protocol = parsed.protocol.replace("http", "ws");
    if (parsed.protocol.startsWith("ws")) return parsed;
  } catch {}
};

const listOf = protocols => {
  const list = Object(protocols) === protocols && protocols[Symbol.iterator] ? Array.from(protocols, text) : [text(protocols)];
  const valid = list.every(one => /^[!#$%&'*+\-.^`|~\w]+$/.test(one)) && new Set(text(list).toLowerCase().split(",")).size >= list.length;
  if (!valid) throw new DOMException("Invalid subprotocols " + list, "SyntaxError");
  return list;
};

// Page is this document's, or worker's, connection to the sidecar. It is begun with the first tunnel and ends with the
// last one.
class Page {
  id = crypto.getRandomValues(new Uint32Array(4)).join("-");
  tunnels = new Map();
  count = 0;
  last = "";
  weight = 0;
  lost = 0; // since when nothing has come; 0: the connection is well
  quiet = patience; // silence that is a loss, until the sidecar has said how often it is heard
  stop = new AbortController();
  posting = 0;
  waiting = [];

  constructor() {
    this.connect();
  }

  add(tunnel) {
    tunnel.page = this;
    tunnel.number = ++this.count;
    this.tunnels.set(this.count, tunnel);
    if (this.limit) tunnel.open();
  }

  drop(tunnel) {
    this.tunnels.delete(tunnel.number);
    if (!this.tunnels.size) this.end();
  }

  end() {
    if (page === this) page = null;
    this.over = true;
    clearTimeout(this.timer);
    this.leave();
  }

  leave() {
    clearTimeout(this.watch);
    this.source.close();
  }

  connect() {
    let opened, some;
    this.expect(Math.min(this.quiet, (this.lost || now()) + patience - now()));
    const hear = {
      open: () => {
        opened = now();
        this.lost = 0;
        this.expect();
      },
      message: event => {
        some = true;
        this.expect();
        this.take(event);
      },
      error: () => {
        this.leave();
        if (!this.over) this.again(!(now() - opened > 499));
      },
      "stream.heartbeat": event => {
        some = true;
        this.expect(this.quiet = JSON.parse(event.data).every * 2 + 2000);
      },
      "stream.gap": () => this.fail(),
      "stream.busy": () => this.fail(),
    };
    const address = own => tunnelURL + "?" + own + "&page=" + this.id + "&lastEventId=" + this.last;
    const source = this.source = new EventSource(address("heartbeat=event"), { withCredentials: true });
    for (const type in hear) source.addEventListener(type, hear[type]);
    setTimeout(() => some || import(base + "_sidestream/polls.mjs").then(polls => polls.start(source, hear, address, next => {
      polling = next.polls;
      this.cut();
      this.source = next;
    })), polling ? 0 : 3000);
  }

  // expect takes the connection for lost when nothing has come for so long, and the POSTs that are under way with it: they
  // are sent again.
  expect(ms = this.quiet) {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => {
      this.cut();
      this.lost ||= now() - ms;
      this.again(true);
    }, ms);
  }

  // cut lets go of the events, and of POSTs under way.
  cut() {
    this.leave();
    this.stop.abort();
    this.stop = new AbortController();
  }

  // again connects once more: at once, unless that has just been done. Where there was no connection yet, the
  // application's own way to try again is the better one.
  again(quick) {
    this.lost ||= now();
    if (!this.limit || now() - this.lost >= patience) return this.fail();
    if (quick) this.timer = setTimeout(() => this.connect(), 500 + Math.random() * 1000);
    else this.connect();
  }

  fail() {
    this.end();
    this.tunnels.forEach(tunnel => tunnel.end());
  }

  take(event) {
    const [number, kind, ...rest] = JSON.parse(event.data);
    this.last = event.lastEventId;
    this.weight += event.data.length + 100;
    if (kind === "page") {
      if (this.limit) return this.fail();
      this.limit = rest[0];
      if (rest[2]) this.id += rest[2]; // which of several replicas has the page
      if (rest[3] && base[4] === "s") import(base + "_sidestream/upward.mjs").then(upward => this.upward = upward, wait); // over TLS alone; without it all goes on
      this.tunnels.forEach(tunnel => tunnel.open());
    }
    const tunnel = this.tunnels.get(number);
    if (tunnel) {
      this.target = tunnel.target;
      tunnel.hear(kind, ...rest);
    }
    if (this.weight >= this.limit) {
      this.weight = 0;
      this.acknowledge();
    }
  }

  async acknowledge() {
    const id = this.last;
    while (!this.over && (await this.post(this.target, { tunnel: 1, seq: 1, ack: id }) || 500) > 499) await wait(1000);
  }

  // turn waits until few POSTs with frames are under way: one lasts as long as its upstream takes nothing. Over
  // HTTP/1.1 a browser has six connections for a host: the events and what acknowledges them must find one.
  async turn() {
    while (this.posting > 2) await new Promise(go => this.waiting.push(go));
    this.posting++;
  }

  pass() {
    this.posting--;
    this.waiting.splice(0).forEach(go => go());
  }

  // body is bytes, or a Blob where an application sends one, which has no length: Chromium fetches the content of a Blob from another process,
  // which takes it a millisecond. Neither has a type, which spares a preflight.
  body(header, frames = []) {
    const parts = [encode(JSON.stringify({ page: this.id, ...header }) + "\n"), ...frames];
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    if (!size) return new Blob(parts);
    const bytes = new Uint8Array(size);
    parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
    return bytes;
  }

  // post returns the answer's status, 0 when there was none. The answer is read to its end: one that is dropped before is shown as a
  // request that was cancelled.
  async post(target, header, frames, more) {
    try {
      const answer = await fetch(tunnelURL + "/" + target, { method: "POST", credentials: "include", signal: this.stop.signal, body: this.body(header, frames), ...more });
      await answer.text();
      return answer.status;
    } catch {}
    return 0;
  }
}

let page = null;

// Tunnel is what a tunnelled WebSocket is made of. Its public names are those of the interface.
class Tunnel {
  readyState = CONNECTING;
  protocol = "";
  extensions = "";
  bufferedAmount = 0;
  binaryType = "blob";
  handlers = {};
  queue = [];
  held = 1;
  ports = new MessageChannel();
  seq = 1;

  constructor(socket, url, target, protocols) {
    this.socket = socket;
    this.url = url.href;
    this.origin = url.origin;
    this.target = target;
    this.protocols = protocols;
    if (tunnelled) this.join();
    else this.tryNative();
  }

  join() {
    (page ||= new Page()).add(this);
  }

  // tryNative is data-mode="fallback". The real WebSocket is only shown once it is open; until then the tunnel can still
  // take its place.
  tryNative() {
    const native = new Native(this.url, this.protocols);
    let heard;
    const give = () => {
      native.onclose = native.onerror = null;
      clearTimeout(timer);
      native.close();
      if (this.readyState === CONNECTING) {
        this.tried = true;
        this.join();
      }
    };
    const timer = setTimeout(give, 3000);
    this.native = { close: give };
    native.onopen = () => {
      clearTimeout(timer);
      native.binaryType = this.binaryType;
      this.native = this.shown = native;
      this.fire(Event, "open");
    };
    native.onmessage = event => {
      heard = true;
      this.fire(MessageEvent, "message", event);
    };
    native.onerror = () => this.shown && this.fire(Event, "error");
    native.onclose = event => {
      if (!this.shown) return give();
      if (event.code === 1006 && !heard) remember();
      this.fire(CloseEvent, "close", event);
    };
  }

  fire(Kind, type, init) {
    this.socket.dispatchEvent(new Kind(type, init));
  }

  post(header, frames, more) {
    return this.page.post(this.target, { tunnel: this.number, ...header }, frames, more);
  }

  // retry waits a second, and returns whether the POST that was answered with status is to be repeated.
  async retry(status, since) {
    if (status && !/408|429|5../.test(status) || now() - since > patience) return;
    await wait(1000);
    return !this.over;
  }

  // open asks for it. What events say of it waits for the answer, with which the cookies come that a browser has once it is open, and
  // is then taken as events are: each in a task of its own.
  async open() {
    const since = now();
    for (;;) {
      const status = await this.post({ open: this.protocols });
      if (this.over) return;
      if (status === 202) break;
      if (status === 404 && !this.moved) {
        this.moved = true;
        if (page === this.page) page = null;
        this.page.drop(this);
        return this.join();
      }
      if (status === 503 || !await this.retry(status, since)) return this.fail();
    }
    this.ports.port2.onmessage = ({ data, currentTarget }) => {
      this.take(...data);
      if (!--this.held) currentTarget.close();
    };
    this.ports.port1.postMessage([]); // for the one that held begins with
  }

  hear(...said) {
    if (!this.held) return this.take(...said);
    this.held++;
    this.ports.port1.postMessage(said);
  }

  take(kind, value, reason, clean) {
    if (kind === "open" && this.readyState === CONNECTING) {
      if (this.tried) remember();
      this.readyState = OPEN;
      this.opened = true;
      this.protocol = value;
      this.fire(Event, "open");
    } else if (kind === "close") {
      this.end(value, reason, clean);
    } else if (kind === "ack") {
      this.up.ack(value, reason, clean);
    } else if (/text|binary/.test(kind) && this.readyState === OPEN) {
      if (kind === "binary") {
        const bytes = Uint8Array.fromBase64?.(value) || Uint8Array.from(atob(value), c => c.charCodeAt(0));
        value = this.binaryType === "blob" ? new Blob([bytes]) : bytes.buffer;
      }
      this.fire(MessageEvent, "message", { data: value, origin: this.origin });
    }
  }

  // end is the end, however it comes: without a clean close it is 1006. It is an error only where there was no connection; one that
  // is cut is none to browsers.
  end(code, reason, wasClean) {
    if (this.over) return;
    this.over = true;
    this.readyState = CLOSED;
    this.page?.drop(this); // none: it is a real one that is tried
    if (!wasClean && !this.opened) this.fire(Event, "error");
    this.fire(CloseEvent, "close", wasClean ? { code, reason, wasClean } : { code: 1006 });
  }

  // fail is an end that the sidecar does not know of.
  fail() {
    if (this.over) return;
    this.post({ seq: this.seq + this.queue.length }, [encode("c0\n")]);
    this.end();
  }

  send(data) {
    if (this.readyState === CONNECTING) throw new DOMException("Invalid state", "InvalidStateError");
    const kind = ({}).toString.call(data);
    let mark = "b";
    if (/ ArrayBuffer/.test(kind) || ArrayBuffer.isView(data)) {
      const { buffer = data, byteOffset, byteLength } = data;
      data = new Uint8Array(buffer, byteOffset, byteLength).slice();
    } else if (!/Blob|File/.test(kind)) {
      data = encode(text(data));
      mark = "t";
    }
    const size = data.size ?? data.length;
    this.bufferedAmount += size;
    if (this.readyState === OPEN) this.enqueue(mark, data, size, size);
  }

  enqueue(mark, data, length, size) {
    this.queue.push({ parts: [encode(mark + length + "\n"), data], size });
    this.flush();
  }

  // flush sends what waits. What is sent in one task goes along.
  async flush() {
    if (this.busy) return;
    this.busy = true;
    await 0;
    for (let since = now(); this.queue.length && !this.over;) {
      if ((this.up ||= this.page.upward?.begin(this))?.send()) break;
      await this.page.turn();
      const began = now(), frames = [], seq = this.seq;
      let count = 0, size = 0;
      for (const frame of this.queue) {
        if ((size += frame.size) >= batch && count) break;
        count++;
        frames.push(...frame.parts);
        if (!frame.sent) this.bufferedAmount -= frame.size; // it is the network's now; its echo may be here before the answer
        frame.sent = 1;
      }
      const status = await this.post({ seq }, frames);
      this.page.pass();
      if (status === 204) {
        this.queue.splice(0, count += seq - this.seq); // some may have been acknowledged otherwise
        if (count > 0) this.seq += count;
        since = now();
      } else if (status === 410 || status === 413) {
        // The reason comes as an event, unless it was a proxy that found the message too large.
        return setTimeout(() => this.fail(), 10000);
      } else if (status === 503 && now() - began > 5000) {
        // The upstream takes nothing at present; the sidecar has waited for it.
        since = now();
      } else if (!await this.retry(status, since)) {
        return this.fail();
      }
    }
    this.busy = false;
  }

  close(code, reason) {
    if (this.readyState >= CLOSING) return;
    const connecting = this.readyState === CONNECTING;
    this.readyState = CLOSING;
    this.native?.close();
    if (connecting) return setTimeout(() => this.page ? this.fail() : this.end());
    const said = encode(code ? code + " " + reason : "");
    this.enqueue("c", said, said.length, 0);
  }

  // leave closes the tunnel while the document goes away.
  leave() {
    const say = (seq, frames) => navigator.sendBeacon(tunnelURL + "/" + this.target, this.page.body({ tunnel: this.number, seq }, frames));
    const bye = [encode("c5\n1001 ")];
    const frames = this.queue.flatMap(frame => frame.parts);
    say(this.seq, this.readyState === CLOSING ? frames : frames.concat(bye)) || say(this.seq + this.queue.length, bye);
  }
}

const native = Native.prototype;
const define = Object.defineProperty;
const inherited = name => Object.getOwnPropertyDescriptor(native, name);

// tunnels holds what belongs to the objects that are not native.
const tunnels = new WeakMap();

class WebSocket extends EventTarget {
  constructor(url, protocols = []) {
    const given = arguments.length, parsed = given && parse(url = text(url));
    const target = parsed ? targetOf(parsed) : undefined;
    if (target === undefined) return Reflect.construct(Native, given ? [url, protocols] : [], new.target);
    const list = listOf(protocols);
    super();
    tunnels.set(this, new Tunnel(this, parsed, target, list));
  }

  static [Symbol.hasInstance](object) {
    return super[Symbol.hasInstance](object) || this === WebSocket && object instanceof Native;
  }

  send(data) {
    const tunnel = tunnels.get(this);
    if (!tunnel || !arguments.length) return native.send.apply(this, arguments);
    (tunnel.shown || tunnel).send(data);
  }

  close(...[code, reason = ""]) {
    const tunnel = tunnels.get(this);
    if (!tunnel) return native.close.apply(this, arguments);
    if (code !== undefined) {
      code = +code;
      code = code % 1 === 0.5 ? 2 * Math.round(code / 2) : Math.round(code); // [Clamp] of Web IDL: halves become even
      if (code !== 1000 && !(code >= 3000 && code <= 4999)) throw new DOMException("Invalid code " + code, "InvalidAccessError");
    }
    reason = text(reason);
    if (encode(reason).length > 123) throw new DOMException("Invalid reason", "SyntaxError");
    if (tunnel.shown) tunnel.shown.close(...code ? [code, reason] : []);
    else tunnel.close(code, reason);
  }
}

const members = WebSocket.prototype;
for (const name of ["url", "readyState", "bufferedAmount", "extensions", "protocol", "binaryType"]) {
  const { get, set } = inherited(name);
  define(members, name, {
    configurable: true,
    get() {
      const tunnel = tunnels.get(this);
      return tunnel ? (tunnel.shown || tunnel)[name] : get.call(this);
    },
    set: set && function (type) {
      const tunnel = tunnels.get(this);
      type = text(type);
      if (!tunnel) set.call(this, type);
      else if (/^(blob|arraybuffer)$/.test(type)) tunnel.binaryType = (tunnel.shown || {}).binaryType = type;
    },
  });
}

// A handler is a listener whose place among the others is where it was set first, until it is set to null.
for (const type of ["open", "message", "error", "close"]) {
  const handler = inherited("on" + type);
  define(members, "on" + type, {
    configurable: true,
    get() {
      const tunnel = tunnels.get(this);
      return tunnel ? tunnel.handlers[type]?.handler || null : handler.get.call(this);
    },
    set(given) {
      const tunnel = tunnels.get(this);
      if (!tunnel) return handler.set.call(this, given);
      const old = tunnel.handlers[type];
      if (Object(given) !== given) {
        if (old) this.removeEventListener(type, old);
        delete tunnel.handlers[type];
      } else if (old) {
        old.handler = given;
      } else {
        const entry = tunnel.handlers[type] = { handler: given, handleEvent: event => typeof entry.handler === "function" && entry.handler.call(event.currentTarget, event) };
        this.addEventListener(type, entry);
      }
    },
  });
}
for (const name of Object.getOwnPropertyNames(members)) {
  if (name !== "constructor") define(members, name, { enumerable: true });
}
["CONNECTING", "OPEN", "CLOSING", "CLOSED"].forEach((name, value) => {
  for (const object of [WebSocket, members]) define(object, name, { value, enumerable: true });
});
define(members, Symbol.toStringTag, { value: "WebSocket", configurable: true });
define(WebSocket, "name", { value: "WebSocket" });
define(WebSocket, mark, { value: true });

// A document that goes away closes its WebSockets. One that comes back out of the browser's cache finds them lost.
let hidden = null;
addEventListener("pagehide", () => {
  hidden = page;
  page?.tunnels.forEach(tunnel => tunnel.leave());
  page?.end();
});
addEventListener("pageshow", event => {
  if (event.persisted) hidden?.fail();
});

//! classic
// Imported as a module by mistake, it must not replace anything.
if (this && prefixes.length && !Native[mark]) globalThis.WebSocket = WebSocket;
})();
//! module
export { WebSocket, WebSocket as default };
