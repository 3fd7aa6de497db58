// What SidestreamEventSources have one connection by: all of a page, and of its tabs. events.js loads it when the first of them begins to listen, and goes
// without where it cannot be loaded.
//
// The two may be of different versions, so what they know of each other keeps its name:
//
//   - a connection is made of an owner { url, last, known, credentials, ticket, begin, receive, state, finish }, and has { every, polls, close };
//   - a source has { url, last, own, connect, disconnect, apply, seen, state, finish };
//   - a hub has { lonely, seat }, and a seat { join, leave, met }.
//
// What passes from the shared connection to those who listen is a chain for each URL: each event carries the id of the one before it. Whoever has the one
// takes the other; what it has already is left out, whoever sent it; and who waits for a link in vain, or has just begun to listen to a URL that the others
// are in the middle of, opens a connection of its own from its last id until it meets the chain again. So nothing is lost or comes twice,
// whichever tab dies at whichever moment. The ids are those that a URL has by itself, also within a set.

const CONNECTING = 0, OPEN = 1;
const kept = 1000; // links that wait for the one before
const silent = 30000; // after which a hub that has told of no heartbeats is given up
const answered = 1000; // within which the tab that has the shared connection answers
const listed = 30000; // after which a tab says again what it listens to...
const forgotten = 150000; // ...and what nobody has named for so long is let go of: a tab that is not seen may be slow to say it
const shares = !!globalThis.BroadcastChannel && !!(globalThis.navigator && navigator.locks);

// Hub is the one connection of a page, and of its tabs, to one sidecar. The page that holds its Web Lock leads: it has the connection, for all URLs that any
// tab listens to, and passes each event on over a BroadcastChannel. When it goes, the next in line goes on from the ids that it has seen.
export class Hub {
  // base is where the sidecar is, connect makes a Connection, and final reports whether a status ends one.
  constructor(name, base, credentials, tickets, connect, final) {
    const set = base + "_sidestream/events";
    this.name = name;
    this.connect = connect;
    this.final = final;
    this.cut = new URL(base).pathname.length - 1; // of a path: what a proxy has put the sidecar under
    this.seats = new Set(); // of those here who listen
    this.members = new Map(); // of those who lead: what is listened to, by URL
    this.order = []; // of the members, as the connection has them
    const hub = this;
    this.owner = {
      credentials,
      ticket: tickets && (signal => tickets(signal, new URL("ticket", set), this.order.map(m => m.path.replace(/\?.*/, "")))),
      begin: () => this.order.forEach(m => m.skip = 0),
      receive: event => this.receive(event),
      state: state => this.order.forEach(m => this.tell({ url: m.url, state: m.state = state })),
      finish: () => this.order[1] ? this.apart(true) : this.end(this.order[0]),
      get url() {
        const { order } = hub;
        if (!order[1]) return order[0].url;
        return set + "?places=1" + order.map(({ path, last }) => "&from=" + encodeURIComponent(last ? path + (path.includes("?") ? "&" : "?") + "lastEventId=" + last : path)).join("");
      },
      // The set's own id is for polls, whose answers come whole: with it nothing is told again.
      get last() { return hub.order[1] ? hub.own && hub.own.polls && hub.id || "" : hub.order[0].last; },
      get known() { return hub.order.some(m => m.last); },
    };
  }

  seat(source) { return new Seat(this, source); }

  join(seat) {
    this.seats.add(seat);
    if (this.seats.size === 1) this.open();
    this.ask(seat);
  }

  leave(seat) {
    if (!this.seats.delete(seat)) return;
    const { url } = seat;
    if ([...this.seats].some(other => other.url === url)) return;
    if (!this.leads) this.post({ drop: url });
    this.drop(url);
    if (!this.seats.size) this.close();
  }

  open() {
    if (!shares) return this.lead();
    const channel = this.channel = new BroadcastChannel(this.name), abort = new AbortController();
    channel.onmessage = ({ data }) => this.channel === channel && this.hear(data);
    this.release = () => abort.abort();
    this.repeat = setInterval(() => this.list(), listed);
    navigator.locks.request(this.name, { signal: abort.signal }, () => new Promise(release => {
      if (this.channel !== channel) return release();
      this.release = release;
      this.lead();
    })).catch(() => {}); // it was no longer wanted
  }

  lead() {
    this.leads = true;
    this.list();
    this.post({ who: true });
  }

  close() {
    if (this.own) this.own.close();
    if (this.release) this.release();
    if (this.channel) this.channel.close();
    clearInterval(this.repeat);
    clearTimeout(this.soon);
    this.own = this.channel = this.release = this.soon = null;
    this.leads = false;
    this.members.clear();
    this.order = [];
  }

  post(message) {
    if (this.channel) this.channel.postMessage(message);
  }

  // tell tells everyone who listens to a URL.
  tell(message) {
    if (!this.leads) return;
    this.post(message);
    this.pass(message);
  }

  pass(message) {
    for (const seat of [...this.seats]) if (seat.url === message.url) seat.hear(message);
  }

  // ask asks whoever leads for what a seat listens to, and how that stands.
  ask({ url, last }) {
    if (this.leads) this.want(url, last);
    else this.post({ want: url, last });
  }

  // list does for all seats, and forgets what nobody has asked for.
  list() {
    for (const { url, at } of this.members.values()) if (Date.now() - at > forgotten) this.drop(url);
    for (const seat of this.seats) this.ask(seat);
  }

  hear(message) {
    if (message.who) this.list();
    else if (message.want) this.leads && this.want(message.want, message.last);
    else if (message.drop) this.drop(message.drop);
    else if (message.apart) this.apart();
    else if (!this.leads) this.pass(message);
  }

  want(url, last) {
    const { pathname, search } = new URL(url), m = this.members.get(url);
    if (m) {
      m.at = Date.now();
      this.tell({ url, type: "stream.heartbeat", id: m.last, before: m.last, data: "{}", every: this.own && this.own.every, state: m.state, ok: true });
    } else if (this.members.size < 32) {
      this.members.set(url, { url, last, path: pathname.slice(this.cut) + search, at: Date.now(), state: CONNECTING });
      this.tell({ url, ok: true });
      this.renew();
    }
  }

  // drop lets go of a URL that no seat here listens to. Others who do ask again.
  drop(url) {
    if (!this.leads || [...this.seats].some(seat => seat.url === url) || !this.members.delete(url)) return;
    this.post({ who: true });
    this.renew();
  }

  // renew makes the connection anew, for what is listened to now. What comes together is made together.
  renew() {
    this.soon ||= setTimeout(() => {
      this.soon = this.id = null;
      if (this.own) this.own.close();
      this.order = [...this.members.values()];
      this.own = this.order[0] ? this.connect(this.owner) : null;
    }, this.own ? 50 : 5);
  }

  receive({ type, id, data, mark }) {
    const { order } = this;
    if (!order[1]) return this.give(order[0], type, id, data);
    this.id = id || this.id;
    if (!mark) {
      if (type !== "stream.open") return order.forEach(m => this.give(m, type, m.last, data));
      const { at, skip } = JSON.parse(data);
      return order.forEach((m, i) => {
        m.skip = skip[i];
        if (!m.last && at[i]) this.give(m, type, at[i], "{}");
      });
    }
    const [index, place] = mark.split(" "), m = order[index];
    if (m.skip > 0 && place) return void m.skip--; // it has that
    if (type === "stream.gap") m.skip = 0;
    if (type === "stream.end") return this.end(m);
    if (type === "stream.refused" && !JSON.parse(data).route) return this.refuse(m, JSON.parse(data).status);
    this.give(m, type.startsWith("stream.") ? type : type.includes(":") ? type.replace(/^\d+:/, "") : "message", place || m.last, data);
  }

  give(m, type, id, data) {
    const before = m.last;
    m.last = id;
    this.tell({ url: m.url, type, id, data, before, every: this.own && this.own.every });
  }

  // refuse is for a URL that is refused while the others go on. Where there is only no room for it now the sidecar has all come back before long.
  refuse(m, status) {
    if (this.final(status)) {
      this.give(m, "stream.refused", m.last, `{"status":${status}}`);
      this.end(m);
    } else this.give(m, "stream.busy", m.last, "{}");
  }

  end({ url }) {
    this.members.delete(url);
    this.tell({ url, end: true });
  }

  // apart has all seats go their own ways, since the sidecar has no sets.
  apart(tell) {
    if (tell) this.post({ apart: true });
    this.lonely = true;
    const { seats } = this;
    this.seats = new Set();
    this.close();
    for (const seat of seats) seat.part();
  }
}

// Seat is where one source listens to the hub. It takes each event with the id of the one before it, holds those for which that has not come yet, and has
// the source connect by itself when it waits in vain.
class Seat {
  constructor(hub, source) {
    this.hub = hub; // null once it has left
    this.source = source;
    this.links = new Map(); // events that wait for the one before, by its id
    this.every = 0; // heartbeats, in ms
    this.led = false; // what the hub says is about where the source is: it has begun with it, or has met it
  }

  get url() { return this.source.url; }
  get last() { return this.source.last; }

  join() {
    this.missing = setTimeout(() => this.alone(), answered);
    this.hub.join(this);
  }

  leave() {
    const { hub } = this;
    this.calm();
    this.hub = null;
    this.links.clear();
    if (hub) hub.leave(this);
  }

  // part is for a hub that ends.
  part() {
    this.hub = null;
    this.alone();
  }

  calm() {
    clearTimeout(this.patience);
    clearTimeout(this.missing);
    this.missing = 0;
  }

  alone() {
    this.calm();
    this.source.connect();
  }

  // follow lives from the hub, and waits for a word of it for as long as heartbeats allow.
  follow(every) {
    this.source.disconnect();
    this.led = true;
    this.every = every || this.every;
    this.calm();
    if (!this.hub.leads) this.patience = setTimeout(() => this.alone(), this.every ? this.every * 2 + 10000 : silent);
    this.source.state(OPEN);
  }

  // met is for each event that the source's own connection has brought.
  met({ type }) {
    this.pump();
    // Now it is known where the source stands: is the hub there too?
    if (type === "stream.heartbeat" && this.source.own && this.hub) this.hub.ask(this);
  }

  // hear takes what the hub says.
  hear(message) {
    const { source, last } = this, beat = message.type === "stream.heartbeat";
    if (!this.hub) return;
    if (message.end) return source.finish();
    if (message.ok && !(last && source.own)) this.calm(); // it is seen to
    if (!message.type) {
      if (message.ok) { // from its beginning
        this.led = true;
        if (!last) source.disconnect();
      } else if (!source.own && this.led) source.state(message.state);
      return;
    }
    if (message.id && message.id === last) { // it is where the source is
      if (message.state !== CONNECTING) this.follow(message.every);
      if (!beat && message.before === last) source.apply(message);
      return;
    }
    if (source.seen(message)) return;
    if (!beat) {
      this.links.set(message.before, message);
      if (this.links.size > kept) this.links.delete(this.links.keys().next().value);
      if (this.pump()) return;
    }
    if (message.id) this.miss();
  }

  // miss waits a moment for the link that is missing, which may come from a tab that has just gone. Who has just begun has no link to wait for.
  miss() {
    if (!this.source.own) this.missing ||= setTimeout(() => this.alone(), this.last ? 200 : 0);
  }

  // pump applies what follows on the last event, and returns whether there was anything.
  pump() {
    let some = false;
    for (let next; next = this.links.get(this.last);) {
      this.links.delete(this.last);
      some = true;
      if (!this.hub) return true;
      this.follow(next.every);
      this.source.apply(next);
    }
    return some;
  }
}

