// Measures the browser's WebSocket, the floor and the tunnelled one in turn: first round trips one at a time, then, without the floor,
// COUNT messages down, then up. figures is what was measured, round by round.
import { WebSocket as Tunnelled } from "/_sidestream/websocket.mjs";

const query = new URLSearchParams(location.search);
const [rounds, trips, COUNT] = query.get("size").split(",").map(Number);
const text = "x".repeat(100);
const asking = "time".padEnd(100); // answered with when it came: microseconds since 1970
window.figures = null;

const open = W => new Promise((done, fail) => {
  const ws = new W(location.origin.replace("http", "ws") + "/echo");
  ws.onopen = () => done(ws);
  ws.onclose = event => fail(new Error("closed with " + event.code));
});

const hear = (ws, count = 1) => new Promise(done => ws.onmessage = event => --count || done(event));

const encoder = new TextEncoder();
let floors = 0;

// Floor is a WebSocket only as far as measuring needs it: a fetch upward, whose answer is read, and an EventSource downward.
class Floor {
  path = "/send";
  id = ++floors;

  constructor() {
    this.source = new EventSource(query.get("floor") + "/?id=" + this.id);
    this.source.onopen = () => this.onopen();
    this.source.onmessage = event => this.onmessage(event);
  }

  async send(text) {
    const answer = await fetch(query.get("floor") + this.path + "?id=" + this.id, { method: "POST", body: encoder.encode(text) });
    await answer.text();
    if (this.path !== "/send") this.onmessage();
  }

  close() {
    this.source.close();
  }
}

// Answer is a floor where nothing but the POST's answer is awaited.
class Answer extends Floor {
  path = "/answer";
}

// Streamed is a floor with one POST for all messages, whose body goes on. Chromium has that over HTTP/2 alone.
class Streamed extends Floor {
  body = new TransformStream();
  writer = this.body.writable.getWriter();
  answer = fetch(query.get("floor") + "/stream?id=" + this.id, { method: "POST", body: this.body.readable, duplex: "half" }).then(answer => answer.text());

  send(text) {
    this.writer.write(encoder.encode(text));
  }

  async close() {
    super.close();
    await this.writer.close();
    await this.answer;
  }
}

async function roundTrips(ws) {
  const times = [], up = [];
  for (let n = 0; n < trips; n++) {
    const start = performance.now(), answer = hear(ws);
    ws.send(asking);
    const event = await answer;
    times.push(performance.now() - start);
    if (event) up.push(event.data / 1000 - performance.timeOrigin - start);
  }
  for (const list of [times, up]) list.sort((a, b) => a - b);
  return { median: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)], there: up[up.length >> 1] };
}

async function measure(W) {
  const ws = await open(W), figures = await roundTrips(ws);
  if (ws instanceof Floor) {
    await ws.close();
    return figures;
  }
  let start = performance.now();
  const all = hear(ws, COUNT);
  ws.send("burst " + COUNT);
  await all;
  const down = COUNT / (performance.now() - start) * 1000;
  start = performance.now();
  const counted = hear(ws);
  ws.send("count " + COUNT); // answered when so many have come
  for (let n = 0; n < COUNT; n++) ws.send(text);
  await counted;
  const up = COUNT / (performance.now() - start) * 1000;
  ws.onclose = null;
  ws.close();
  return { ...figures, down, up };
}

const kinds = { websocket: WebSocket, answer: Answer, floor: Floor, ...location.protocol === "https:" && { streamed: Streamed }, tunnel: Tunnelled };
const figures = {};
try {
  for (const kind in kinds) {
    await measure(kinds[kind]); // to warm up
    figures[kind] = [];
  }
  for (let n = 0; n < rounds; n++) {
    for (const kind in kinds) figures[kind].push(await measure(kinds[kind]));
  }
  window.figures = figures;
} catch (error) {
  window.figures = { problem: String(error) };
}
