// Events of the Docker Engine API (docs.docker.com/reference/api/engine, "Monitor events") on a Unix socket, options.socket. Docker keeps the last 256 in
// memory. With options.log it is Podman 4.3: every event is in that file, which outlives the process, and "since" is a floating-point number.
import fs from "node:fs";
import http from "node:http";
import { answer, options, serve } from "./serve.mjs";

const logged = options.log && fs.existsSync(options.log) ? fs.readFileSync(options.log, "utf8").split("\n").filter(Boolean) : [];
let events = logged.map((line) => ({ line, nano: BigInt(/"timeNano":(\d+)/.exec(line)[1]) }));
const open = new Set();
const seen = { asked: [] };

// after is whether an event counts as one since a time in seconds.
const after = (nano, since) => {
  if (!since) return false;
  if (options.log) return Number(nano) / 1e9 > Number(since);
  const [seconds, part = ""] = since.split(".");
  return nano >= BigInt(seconds) * 1000000000n + BigInt(part.padEnd(9, "0"));
};

const engine = http.createServer((request, response) => {
  const url = new URL(request.url, "http://docker");
  if (url.pathname !== "/v1.41/events") return answer(response, 404, { message: "page not found" });
  seen.asked.push(request.headers.host + request.url);
  const { type = [], ...unknown } = JSON.parse(url.searchParams.get("filters") ?? "{}");
  if (Object.keys(unknown).length) return answer(response, 400, { message: `invalid filter '${Object.keys(unknown)[0]}'` });
  response.writeHead(200, { "Content-Type": "application/json", "Api-Version": "1.41" });
  response.flushHeaders();
  const wanted = (line) => !type.length || type.includes(JSON.parse(line).Type);
  for (const { line, nano } of events) if (after(nano, url.searchParams.get("since")) && wanted(line)) response.write(line + "\n");
  response.wanted = wanted;
  open.add(response);
  response.on("close", () => open.delete(response));
});
fs.rmSync(options.socket, { force: true });
engine.listen(options.socket);

let last = 0n;
function event({ type, action, name }) {
  let nano = BigInt(Date.now()) * 1000000n + 717322861n % 1000000n;
  if (nano < last + 5000n) nano = last + 5000n;
  last = nano;
  const line = JSON.stringify({ status: action, id: "id-" + name, Type: type, Action: action, Actor: { ID: "id-" + name, Attributes: { name, secret: "not for pages" } }, scope: "local", time: 0, timeNano: 0 })
    .replace('"time":0,"timeNano":0', `"time":${nano / 1000000000n},"timeNano":${nano}`);
  events.push({ line, nano });
  if (options.log) fs.appendFileSync(options.log, line + "\n");
  else events = events.slice(-256);
  return line;
}

const told = (line, f) => { const to = [...open].filter((response) => response.wanted(line)); to.forEach(f); return to.length; };
serve({ upgrade: () => {}, doing: {
  seen: () => ({ ...seen, open: open.size }),
  event: (of) => { const line = event(of); return told(line, (response) => response.write(line + "\n")); },
  tear: (of) => { const line = event(of); return told(line, (response) => response.write(line.slice(0, 20), () => response.destroy())); },
} });
