// One POST for all that a tunnel sends, whose body goes on, which websocket.js loads where the sidecar takes it: a message costs no request of
// its own then. The rules:
//
//   - Chromium has it, over HTTP/2 and HTTP/3; only there it is tried, for a tunnel that sends several messages within a few seconds.
//   - A proxy between may hold a body until it ends. So messages go by other POSTs until the sidecar has said, by an event, that the
//     beginning of the body is there.
//   - What is sent over it is kept, with its number, until it is acknowledged by an event. Where that does not come soon, or the body ends, it
//     is sent again by other POSTs, and the sidecar leaves out what it has. Where not even the beginning was acknowledged although the events
//     come, or twice no message, no body goes on any more while this page lives. Where nothing comes at all, that says nothing about bodies.
//   - It ends when nothing is sent for a while, since it costs the sidecar memory, and before it is larger than what proxies let through. It
//     ends after a minute too: whose page it is, is asked with each POST, and who has logged out is to be noticed.

const now = Date.now;
const lively = 5000; // within which another message has it begun
const trial = 5000; // for the sidecar to say that it is there
const prompt = 2000; // for an acknowledgement, and as long as the bytes may take...
const slow = 32; // ...which is so many in a millisecond
const asleep = 10000; // a timer that is so late says nothing: the machine was asleep, and no event could come
const rest = 1000; // after the end of one, until the next
const pause = 30000; // likewise, where it was not acknowledged at all
const idle = 30000; // without a message
const inFlight = 256 << 10; // bytes that are not acknowledged
const most = 768 << 10; // bytes of a body: nginx takes 1 MiB by default
const path = new URL("tunnel", import.meta.url).href;
const encode = text => new TextEncoder().encode(text);

let places = 6; // of a page; the sidecar has 8
let failures = 0; // one after the other
let late = 0; // acknowledgements
let said = 0; // when an event has come
let watched; // the source of events whose events say so
let off = true; // it cannot be had
let multiplexed = false; // the sidecar was last reached by HTTP/2 or HTTP/3
try {
  const { headers } = new Request(path, {
    method: "POST",
    body: new ReadableStream(),
    get duplex() { // where it is not known, the body is taken for text
      off = false;
      return "half";
    },
  });
  off ||= headers.has("Content-Type");
  if (!off) new PerformanceObserver(list => {
    for (const { name, nextHopProtocol } of list.getEntries()) if (name.startsWith(path) && nextHopProtocol) multiplexed = /^h[23]/.test(nextHopProtocol);
  }).observe({ type: "resource", buffered: true });
} catch {
  off = true;
}

const joined = parts => {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  return bytes;
};

const watch = source => {
  if (source === watched) return;
  watched = source;
  for (const type of ["message", "stream.heartbeat"]) source.addEventListener(type, () => said = now());
};

// begin returns what sends for a tunnel of websocket.js.
export function begin(tunnel) {
  let stream = null, count = 0, busy = 0, after = 0;

  // open has the body begin; what it is to carry comes when the sidecar says that it is there.
  const open = () => {
    const mine = stream = { id: ++count, source: tunnel.page.source, last: tunnel.seq - 1, bytes: 0, acked: 0 };
    watch(mine.source);
    const body = new ReadableStream({ start: control => mine.control = control, cancel: () => mine.closed = true });
    mine.control.enqueue(tunnel.page.body({ tunnel: tunnel.number, seq: tunnel.seq, stream: count }));
    places--;
    tunnel.post({}, [], { body, duplex: "half" }).then(status => {
      places++;
      if (status === 204) return close(mine); // what was sent is acknowledged by events
      if (!mine.heard && !/429|503/.test(status) && ++failures > 2) off = true;
      leave(mine);
    });
    expect(mine, trial);
    look(mine, true);
  };

  // expect gives it so long.
  const expect = (mine, ms) => {
    const due = now() + ms;
    mine.timer = setTimeout(() => {
      const { page, readyState } = tunnel;
      // A close frame is answered by the end, which takes the upstream what it takes.
      if (mine.source === page.source && mine.source.readyState === 1 && readyState < 2 && now() - due < asleep && said > due - ms / 2) off ||= !mine.heard || late++ > 0;
      leave(mine);
    }, ms);
  };

  // look ends it when nothing was sent for long, and after the tunnel's end, and the second time in any case.
  const look = (mine, first) => setTimeout(() => {
    if (mine !== stream) return;
    if (first && tunnel.readyState < 3 && (mine.timer || now() - busy < idle)) return look(mine);
    close(mine);
    leave(mine);
  }, idle);

  // close ends the body: nothing more is put into it.
  const close = mine => {
    if (!mine.closed) mine.control.close();
    mine.closed = true;
  };

  // leave gives it up: what is not acknowledged is sent by other POSTs.
  const leave = mine => {
    clearTimeout(mine.timer);
    if (!mine.closed) mine.control.error();
    mine.closed = true;
    if (mine !== stream) return;
    stream = null;
    after = now() + (mine.heard ? rest : pause);
    tunnel.flush();
  };

  // put has the body carry what it may of the queue. It returns the bytes that it carries and that are not acknowledged.
  const put = () => {
    const { queue, seq } = tunnel, parts = [];
    let full = false;
    if (seq > stream.last) stream.acked = stream.bytes;
    for (let at = Math.max(stream.last + 1 - seq, 0); at < queue.length; at++) {
      const frame = queue[at], [head, data] = frame.parts;
      if (stream.closed || data.size >= 0 || frame.size > inFlight || stream.bytes - stream.acked > inFlight) break;
      full = stream.bytes + frame.size > most;
      if (full) break;
      if (seq + at > stream.last + 1) parts.push(encode("n" + (seq + at) + "\n"));
      parts.push(head, data);
      stream.last = seq + at;
      frame.end = stream.bytes += head.length + data.length;
      if (!frame.sent) tunnel.bufferedAmount -= frame.size;
      frame.sent = 1;
    }
    if (parts.length) stream.control.enqueue(joined(parts));
    if (full) close(stream);
    return stream.bytes - stream.acked;
  };

  return {
    // send returns whether what waits is on its way; else it is to be POSTed.
    send() {
      const time = now();
      if (!stream && !off && multiplexed && places > 0 && time > after && time - busy < lively && tunnel.page.source.readyState === 1) open();
      busy = time;
      if (!stream?.heard) return false;
      const waiting = put();
      if (waiting && !stream.timer) expect(stream, prompt + waiting / slow);
      if (!waiting && stream.closed) stream = null;
      return waiting > 0;
    },

    // ack takes in that what was sent is written, up to the frame with this number. It is said of the body id; over says that the sidecar has ended that.
    ack(number, id, over) {
      const written = tunnel.queue.splice(0, Math.max(number + 1 - tunnel.seq, 0));
      tunnel.seq += written.length;
      if (id === stream?.id) {
        stream.acked = written.at(-1)?.end ?? stream.acked;
        clearTimeout(stream.timer);
        stream.timer = 0;
        stream.heard = true;
        failures = 0;
        if (over) leave(stream);
      }
      tunnel.flush();
    },
  };
}
