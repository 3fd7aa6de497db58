// Measures the browser's WebSocket and the tunnelled one in turn: first round trips one at a time, then COUNT messages
// down, then up. figures is what was measured, round by round.
import { WebSocket as Tunnelled } from "/_sidestream/websocket.mjs";

const [rounds, trips, COUNT] = new URLSearchParams(location.search).get("size").split(",").map(Number);
const text = "x".repeat(100);
window.figures = null;

const open = W => new Promise((done, fail) => {
  const ws = new W(location.origin.replace("http", "ws") + "/echo");
  ws.onopen = () => done(ws);
  ws.onclose = event => fail(new Error("closed with " + event.code));
});

const hear = (ws, count = 1) => new Promise(done => ws.onmessage = () => --count || done());

async function measure(W) {
  const ws = await open(W), times = [];
  for (let n = 0; n < trips; n++) {
    const start = performance.now(), answer = hear(ws);
    ws.send(text);
    await answer;
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
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
  return { median: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)], down, up };
}

const figures = { websocket: [], tunnel: [] };
try {
  for (const W of [WebSocket, Tunnelled]) await measure(W); // to warm up
  for (let n = 0; n < rounds; n++) {
    figures.websocket.push(await measure(WebSocket));
    figures.tunnel.push(await measure(Tunnelled));
  }
  window.figures = figures;
} catch (error) {
  window.figures = { problem: String(error) };
}
