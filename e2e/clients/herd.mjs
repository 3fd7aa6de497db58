// Many EventSources of npm's eventsource, told to show how they fare.
//
//	node herd.mjs URL COUNT
//
// It prints {"open":N,"dead":N} whenever that changes: how many are connected, and how many have given up for good.

import { EventSource } from "eventsource";

const [url, count] = process.argv.slice(2);
const sources = Array.from({ length: Number(count) }, () => new EventSource(url));
let shown = "";
setInterval(() => {
  const states = sources.map(source => source.readyState);
  const line = JSON.stringify({ open: states.filter(s => s === 1).length, dead: states.filter(s => s === 2).length });
  if (line !== shown) process.stdout.write((shown = line) + "\n");
}, 20);
