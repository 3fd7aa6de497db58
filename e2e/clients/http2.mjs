// node http2.mjs URL STREAMS: Node's HTTP/2 client with its small windows of 64 KiB, which it grants anew once half is
// used. It reads so many event streams on one connection and downloads /bulk beside them, again and again, says ten times
// a second what it has seen, and ends when all streams have.
import { connect } from "node:http2";

const [, , url, wanted] = process.argv;
const session = connect(url);
const streams = [], problems = [];
let ended = 0, bulks = 0, running = true;

function follow(n) {
  const stream = session.request({ ":path": "/ticks", accept: "text/event-stream" });
  const seen = { n: 0, status: 0, clean: false, code: 0 };
  streams.push(seen);
  let text = "";
  stream.setEncoding("utf8");
  stream.on("response", head => { seen.status = head[":status"]; });
  stream.on("data", piece => {
    text += piece;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find(line => line.startsWith("data: "));
      if (!data || block.includes("event: stream.")) continue;
      const event = JSON.parse(data.slice(6));
      if (event.n !== seen.n + 1) problems.push(`stream ${n}: ${event.n} behind ${seen.n}`);
      seen.n = event.n;
    }
  });
  stream.on("error", () => {});
  stream.on("end", () => { seen.clean = true; });
  stream.on("close", () => {
    seen.code = stream.rstCode;
    if (seen.code !== 0) seen.clean = false;
    if (++ended === streams.length) finish();
  });
}

function download() {
  const stream = session.request({ ":path": "/bulk" });
  let size = 0;
  stream.on("data", piece => { size += piece.length; });
  stream.on("error", () => {});
  stream.on("close", () => {
    if (!running) return;
    if (size !== 3_000_000) problems.push(`a download of ${size} bytes`);
    bulks++;
    download();
  });
}

function report() {
  console.log(JSON.stringify({ open: streams.filter(s => s.status === 200).length, least: Math.min(...streams.map(s => s.n)), bulks, problems,
    codes: [...new Set(streams.map(s => `${s.status} ${s.clean} ${s.code}`))] }));
}

function finish() {
  running = false;
  report();
  session.destroy();
}

session.on("error", error => { if (running) problems.push(String(error)); });
for (let n = 0; n < Number(wanted); n++) follow(n);
download();
const timer = setInterval(() => { if (running) report(); else clearInterval(timer); }, 100);
