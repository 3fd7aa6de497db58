// An EventSource for Sidestream's routes: the same interface, and
//
//   - all of a page, and of its tabs, share one connection to a sidecar, whatever they listen to: see hub.js. Where a browser lacks what that takes, each
//     page has one. With a single URL that is its own stream, else a set's: /_sidestream/events?from=...&from=... What is added or closed does not disturb
//     the others: the connection is opened again, and each URL continues after its last id;
//   - it comes back whatever ended the connection, with a growing random pause, and stops only where the sidecar says that
//     the stream is finished or refused;
//   - it notices when nothing comes any more, not even the heartbeats that were announced, and connects anew;
//   - where something on the way holds events back - a proxy that waits for more, or for the end - it goes on with long polls, from the
//     same id: when nothing has come of an answer for a while, or heartbeats come in lumps, it asks for a poll beside it. Who answers that, whole,
//     while the stream is still silent is polled from then on. Now and then a stream is tried beside the polls;
//   - options.gap is called when events are missing;
//   - a page that nobody has seen for five minutes lets its connection go, and goes on from its last id when it is shown, unless options.hidden is
//     "keep";
//   - with options.auth "ticket" it gets a ticket for each connection, which stands in the URL for the page's cookies, or for
//     options.authorization. While none is to be had the last one goes on.
//
// The connection is fetch's: it shows the answer's status and events of all names, which a native EventSource hides.

//! classic
(() => {
"use strict";
const here = globalThis.document && document.currentScript ? document.currentScript.src : location.href;
//! module
const here = import.meta.url;
//! both
const CONNECTING = 0, OPEN = 1, CLOSED = 2;
const first = 1000, most = 30000; // between two attempts
const kept = 1000; // of the events that a page has seen: none comes twice
const prompt = 3000; // after which an answer without a byte is doubted: one that is only late has its first bytes before the poll beside it has its answer
const polled = 25000; // a poll is answered within
const again = 600000; // until a stream is tried again...
const soon = 30000; // ...but for the first time: what kept it silent may have been a moment without network
const unseen = 300000; // a page that is hidden for so long lets go
const loaded = 1000; // within which hub.js is there: a page does not wait for it any longer
const memory = "sidestream polls"; // until when this tab polls, in sessionStorage

// Connection is one answer after the other, until it is ended: by close, or by the sidecar.
class Connection {
  constructor(owner) {
    this.owner = owner;
    this.pause = 0;
    this.polls = false;
    this.pieces = 0; // that streams have brought
    const until = remembered();
    if (until > Date.now()) this.hold(until);
    this.run();
  }

  async run() {
    const { owner } = this;
    while (!this.ended) {
      let status = 0;
      const { polls } = this;
      try {
        status = await (this.polls ? this.poll() : this.listen());
      } catch {}
      clearTimeout(this.watch);
      clearTimeout(this.doubt);
      if (this.ended) return;
      if (status === "polled" || polls !== this.polls) continue;
      if (status === 401 && this.stale) status = 0; // another ticket may help, when one is to be had
      // A finished stream is answered with 204, or 410 for an id in the query. What the upstream refuses stays refused. The
      // mere end of an answer may be some proxy's doing.
      if (final(status)) {
        this.ended = true;
        return owner.finish();
      }
      owner.state(CONNECTING);
      const hint = status === 200 ? 100 : this.pause ? 0 : this.hint;
      this.pause = Math.min(Math.max(this.pause * 2, first), most);
      await new Promise(go => this.timer = setTimeout(go, hint || this.pause * (0.5 + Math.random())));
    }
  }

  // ask makes one request, with a query of the sidecar's own. Of an answer that is no event stream it returns the status alone.
  async ask(own, abort) {
    const { owner } = this;
    let url = owner.url.replace(/#.*/, "");
    if (owner.last) url = url.replace(/([?&])(lastEventId|last_event_id)=[^&]*/g, "$1lastEventId=" + owner.last);
    if (owner.last && !/[?&]lastEventId=/.test(url)) url += (url.includes("?") ? "&" : "?") + "lastEventId=" + owner.last;
    url += (url.includes("?") ? "&" : "?") + own;
    if (owner.ticket) url += "&ticket=" + this.ticket;
    const answer = await fetch(url, { headers: { Accept: "text/event-stream" }, cache: "no-store", credentials: owner.credentials, signal: abort.signal });
    const type = answer.headers.get("Content-Type") || "of no type";
    if (answer.status === 200 && type.startsWith("text/event-stream")) {
      this.strange = 0;
      return answer;
    }
    abort.abort();
    return { status: answer.status === 200 ? this.stranger(type) : answer.status };
  }

  // stranger is the status that an answer stands for which is no event stream. A proxy's page may be there for a moment only; one that is there for
  // longer is what that path has.
  stranger(type) {
    this.strange = (this.strange || 0) + 1;
    if (this.strange === 1) console.warn(`${this.owner.url} is answered with ${type} instead of text/event-stream: is that the path of a route, and is a login needed?`);
    return this.strange > 3 ? 406 : 502;
  }

  // listen reads one answer to its end, and returns its status. It throws when the answer is cut off.
  async listen() {
    const { owner } = this, abort = this.abort = new AbortController();
    this.watch = setTimeout(() => abort.abort(), most);
    this.lumps = 0;
    if (owner.ticket) {
      const status = await this.renew(abort.signal);
      if (status) return status;
    }
    this.doubt = setTimeout(() => this.suspect(abort), prompt);
    const answer = await this.ask("heartbeat=event", abort);
    if (!answer.body) return answer.status;
    if (!this.ended) owner.state(OPEN);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader(), take = this.reading();
    for (;;) {
      const { done, value } = await reader.read();
      if (this.polls) return "polled"; // what it had is given by the polls, too
      if (done) return this.busy ? 0 : 200;
      clearTimeout(this.doubt);
      this.alive();
      this.pieces++;
      take(value);
    }
  }

  // reading returns a function that takes an answer piece by piece.
  reading() {
    let text = "", event = { data: "" };
    if (this.owner.begin) this.owner.begin();
    return piece => {
      const lines = (text + piece).split("\n");
      text = lines.pop();
      for (const line of lines) {
        if (this.ended) return;
        const at = line.indexOf(":"), name = line.slice(0, at), said = line.slice(at + 2); // one space after the colon
        if (line === "") {
          if (event.some) this.take(event);
          event = { data: "" };
        } else if (name === "data") {
          event.data += (event.some ? "\n" : "") + said;
          event.some = true;
        } else if (name === "event") event.type = said;
        else if (name === "" && said) event.mark = said;
        else if (name === "id") event.id = said;
        else if (name === "retry") this.hint = Number(said);
      }
    };
  }

  // suspect asks for a poll while a stream is silent, or lags behind. Where that is answered first, it is polled from then on. The poll is answered at
  // once, since heartbeats are asked for.
  async suspect(stream) {
    const abort = new AbortController(), { pieces } = this;
    stream.signal.addEventListener("abort", () => abort.abort());
    setTimeout(() => abort.abort(), most);
    try {
      const answer = await this.ask("heartbeat=event&poll=1", abort);
      const text = answer.body && await answer.text();
      // What has come by the stream meanwhile shows that nothing is held back, or that this is not the answer any more.
      if (!text || this.ended || this.abort !== stream || stream.signal.aborted || this.pieces !== pieces) return;
      this.hold(Date.now() + again, true);
      this.owner.state(OPEN);
      this.reading()(text);
      stream.abort();
    } catch {}
  }

  // hold has the connection poll until a time.
  hold(until, found) {
    this.polls = true;
    this.until = found ? Date.now() + soon : until;
    this.found = found;
    remember(until);
  }

  // poll asks once, and takes the answer as a whole.
  async poll() {
    const { owner } = this, abort = this.abort = new AbortController();
    this.watch = setTimeout(() => abort.abort(), polled + most);
    this.every = polled;
    const renews = owner.ticket && !(owner.last && Date.now() < this.fresh + again);
    if (renews) {
      const status = await this.renew(abort.signal);
      if (status) return status;
    }
    if (Date.now() > this.until) this.retry();
    const answer = await this.ask(this.found ? "poll=held" : "poll=1", abort);
    if (answer.status === 401 && owner.ticket && !renews) { // it may be its ticket, which is minutes old
      this.fresh = 0;
      return "polled";
    }
    if (!answer.body) return answer.status;
    this.found = this.busy = false;
    if (!this.ended) owner.state(OPEN);
    this.hint = 0;
    this.some = false;
    const text = await answer.text();
    this.reading()(text);
    if (!this.ended && !this.some && !this.hint && text !== ":\n") return 0; // whatever that was
    if (!this.ended && !this.some && !this.hint) owner.receive({ type: "stream.heartbeat", id: owner.last, data: `{"every":${polled}}` }); // tabs that follow wait for a word
    this.pause = 0;
    return this.hint ? 0 : "polled"; // with a hint it is to stay away for a while
  }

  // retry tries a stream beside the polls, and goes back to streams when its first bytes come in time.
  async retry() {
    remember(this.until = Date.now() + again);
    const abort = new AbortController();
    const patience = setTimeout(() => abort.abort(), prompt);
    try {
      const answer = await this.ask("heartbeat=event", abort);
      if (!answer.body) return;
      await answer.body.getReader().read();
      if (abort.signal.aborted || this.ended) return;
      this.polls = false;
      remember(0);
      this.abort.abort();
    } catch {
    } finally {
      clearTimeout(patience);
      abort.abort();
    }
  }

  // renew gets a ticket, and returns 0; or the status of what it got instead.
  async renew(signal) {
    const { owner } = this, old = owner.known && this.ticket; // with an id it holds for hours
    let status = 502;
    try {
      const answer = await owner.ticket(signal);
      status = answer.status;
      if (status === 200) this.ticket = (await answer.json()).ticket;
      if (status === 200) this.fresh = Date.now();
    } catch {
      if (signal.aborted) throw signal.reason;
    }
    this.stale = !!old && status > 499;
    return status === 200 || this.stale ? 0 : status;
  }

  take({ type = "message", id, data, mark }) {
    this.pause = 0;
    this.some = true;
    if (type === "stream.heartbeat") {
      this.every = JSON.parse(data).every;
      this.alive();
      this.beat();
    }
    this.busy = type === "stream.busy";
    this.owner.receive({ type, id: id || this.owner.last, data, mark });
  }

  // beat notices heartbeats that come together, twice: they were held back. In between one that comes in time shows that they are not: a network
  // was away for a moment. In a tab that is not seen they may have waited in it.
  beat() {
    const now = performance.now(), before = this.beaten;
    this.beaten = now;
    if (this.polls || !before || globalThis.document?.hidden) return void (this.lumps = 0);
    if (now - before > this.every / 3 && now - before < this.every * 1.5) this.lumps = 0;
    if (now - before > this.every / 3 || now - this.lumped < this.every) return;
    this.lumped = now;
    if (++this.lumps > 1) this.suspect(this.abort);
  }

  // alive puts off the moment at which the connection is taken for dead.
  alive() {
    clearTimeout(this.watch);
    if (this.every) this.watch = setTimeout(() => this.abort.abort(), this.every * 2 + 5000);
  }

  close() {
    this.ended = true;
    clearTimeout(this.timer);
    clearTimeout(this.watch);
    clearTimeout(this.doubt);
    if (this.abort) this.abort.abort();
  }
}

// remember notes until when this tab polls, 0 for no longer, for its next page; remembered is that. Both do without where they may not.
function remember(until) {
  try {
    if (until) sessionStorage.setItem(memory, until);
    else sessionStorage.removeItem(memory);
  } catch {}
}

function remembered() {
  try {
    return Math.min(Number(sessionStorage.getItem(memory)), Date.now() + again);
  } catch {
    return 0;
  }
}

const final = status => status === 204 || status > 399 && status < 500 && ![408, 425, 429].includes(status);

const hubs = new Map(); // promises of them, by their names

// hubOf returns a promise of the hub for a URL: that of the sidecar which has served this script, if it is under the same path, else of one at the root.
function hubOf(url, credentials, auth, tickets) {
  const { origin } = new URL(url), root = origin + "/";
  const own = here.includes("/_sidestream/") ? here.replace(/_sidestream\/[^]*/, "") : root;
  const base = url.startsWith(own) ? own : root, name = ["sidestream", 2, credentials, auth, base].join(" ");
  if (!hubs.has(name)) hubs.set(name, import(own + "_sidestream/hub.mjs").then(({ Hub }) => new Hub(name, base, credentials, tickets, owner => new Connection(owner), final)));
  return hubs.get(name);
}

class SidestreamEventSource extends EventTarget {
  #url;
  #withCredentials;
  #readyState = CONNECTING;
  #handlers = {};
  #options;
  #own = null; // Connection
  #hub; // a promise of the shared one, or null
  #seat = null; // there
  #turn; // changes when it begins, or stops
  #late; // while hub.js is loaded
  #seen = new Set();
  #inner; // what its connection, and its seat, have of it

  constructor(url, options = {}) {
    super();
    const base = globalThis.document ? document.baseURI : location.href;
    try {
      this.#url = new URL(url, base).href;
    } catch {
      throw new DOMException(`Cannot open an EventSource to '${url}'. The URL is invalid.`, "SyntaxError");
    }
    this.#withCredentials = !!options.withCredentials;
    this.#options = options;
    const { searchParams: given, pathname } = new URL(this.#url), { auth, authorization } = options;
    const credentials = this.#withCredentials ? "include" : "same-origin";
    const source = this;
    this.#inner = {
      url: this.#url,
      last: given.get("lastEventId") || "",
      get known() { return this.last; },
      get own() { return source.#own; },
      credentials,
      receive: event => {
        this.#apply(event);
        if (this.#seat) this.#seat.met(event);
      },
      apply: event => this.#apply(event),
      seen: event => this.#seen.has(key(event)),
      state: state => this.#change(state),
      finish: () => this.#finish(),
      connect: () => this.#connect(),
      disconnect: () => this.#disconnect(),
    };
    let tickets;
    if (auth === "ticket") {
      tickets = async (signal, at, paths) => {
        const headers = { "Content-Type": "application/json" };
        const own = typeof authorization === "function" ? await authorization() : authorization;
        if (own) headers.Authorization = own;
        return fetch(at, { method: "POST", body: JSON.stringify({ paths }), headers, cache: "no-store", credentials, signal });
      };
      this.#inner.ticket = signal => tickets(signal, new URL("/_sidestream/ticket", this.#url), [pathname]);
    } else if (auth) throw new TypeError(`auth: "${auth}" is not known; write "ticket"`);
    // A position of its own is nobody else's, nor is what comes for an Authorization of its own.
    this.#hub = options.shared === false || authorization || this.#inner.last || !this.#url.startsWith("http") ? null : hubOf(this.#url.replace(/#.*/, ""), credentials, auth, tickets);
    this.#begin();
    this.#hide = () => this.#stop();
    this.#show = event => event.persisted && this.#readyState !== CLOSED && !this.#rests && this.#begin();
    globalThis.addEventListener("pagehide", this.#hide);
    globalThis.addEventListener("pageshow", this.#show);
    if (options.hidden !== "keep" && globalThis.document) {
      this.#watch = () => this.#look();
      document.addEventListener("visibilitychange", this.#watch);
      this.#look();
    }
  }

  // look lets go of the connection of a page that stays hidden, and takes it up when the page is shown.
  #look() {
    clearTimeout(this.#leaving);
    if (document.hidden) {
      this.#leaving = setTimeout(() => {
        this.#rests = true;
        this.#stop();
        this.#change(CONNECTING);
      }, unseen);
    } else if (this.#rests) {
      this.#rests = false;
      this.#begin();
    }
  }

  #watch;
  #leaving;
  #rests = false; // it has let go

  #hide;
  #show;

  get url() { return this.#url; }
  get withCredentials() { return this.#withCredentials; }
  get readyState() { return this.#readyState; }

  close() {
    this.#readyState = CLOSED;
    this.#stop();
    clearTimeout(this.#leaving);
    this.#rests = false;
    if (this.#watch) document.removeEventListener("visibilitychange", this.#watch);
    globalThis.removeEventListener("pagehide", this.#hide);
    globalThis.removeEventListener("pageshow", this.#show);
  }

  // begin listens: to the shared connection, or to one of its own while that is not there, or where it never is.
  async #begin() {
    const turn = this.#turn = {};
    let hub = null;
    if (this.#hub) this.#late = setTimeout(() => this.#connect(), loaded);
    try {
      hub = await this.#hub;
    } catch {}
    if (turn !== this.#turn) return;
    clearTimeout(this.#late);
    if (!hub || hub.lonely) return this.#connect();
    this.#seat = hub.seat(this.#inner);
    this.#seat.join();
  }

  // stop lets go of everything.
  #stop() {
    const seat = this.#seat;
    clearTimeout(this.#late);
    this.#disconnect();
    this.#seat = this.#turn = null;
    if (seat) seat.leave();
  }

  #connect() {
    this.#own ||= new Connection(this.#inner);
  }

  #disconnect() {
    if (this.#own) this.#own.close();
    this.#own = null;
  }

  // apply shows an event to the page, unless it has seen it.
  #apply({ type, id, data }) {
    if (this.#readyState === CLOSED) return;
    this.#inner.last = id;
    if (type !== "stream.heartbeat") {
      const name = key({ type, id });
      if (id && this.#seen.has(name)) return;
      this.#seen.add(name);
      if (this.#seen.size > kept) this.#seen.delete(this.#seen.values().next().value);
    }
    if (type === "stream.gap" && this.#options.gap) this.#options.gap(JSON.parse(data));
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId: id, origin: new URL(this.#url).origin }));
  }

  #change(state) {
    if (this.#readyState === CLOSED || this.#readyState === state && state === OPEN) return;
    this.#readyState = state;
    this.dispatchEvent(new Event(state === OPEN ? "open" : "error"));
  }

  // finish is an end that stays one.
  #finish() {
    if (this.#readyState === CLOSED) return;
    this.close();
    this.dispatchEvent(new Event("error"));
  }

  static {
    for (const target of [this, this.prototype]) {
      for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSED })) Object.defineProperty(target, name, { value, enumerable: true });
    }
    for (const type of ["open", "message", "error"]) {
      Object.defineProperty(this.prototype, "on" + type, {
        configurable: true,
        enumerable: true,
        get() { return this.#handlers[type]?.handler ?? null; },
        set(handler) {
          const old = this.#handlers[type];
          if (typeof handler !== "function") {
            if (old) this.removeEventListener(type, old);
            delete this.#handlers[type];
          } else if (old) {
            old.handler = handler;
          } else {
            const entry = this.#handlers[type] = { handler, handleEvent: event => entry.handler.call(this, event) };
            this.addEventListener(type, entry);
          }
        },
      });
    }
    Object.defineProperty(this, "name", { value: "SidestreamEventSource" });
  }
}

const key = ({ type, id }) => type + " " + id;

//! classic
globalThis.SidestreamEventSource = SidestreamEventSource;
})();
//! module
export { SidestreamEventSource, SidestreamEventSource as default };
