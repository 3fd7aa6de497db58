// Frames of one page stand for tabs: each has locks and channels of its own, and removing one is its death.
"use strict";
const tabs = {};

function add(name) {
  const frame = document.createElement("iframe");
  frame.src = "/tab.html";
  document.body.append(frame);
  tabs[name] = { frame, seen: [], states: [], gaps: [], problems: [] };
  frame.onload = () => {
    const { contentWindow: tab } = frame, t = tabs[name];
    tab.addEventListener("error", event => t.problems.push(event.message));
    tab.addEventListener("unhandledrejection", event => t.problems.push(String(event.reason)));
    t.source = new tab.SidestreamEventSource("/ticks", { gap: gap => t.gaps.push(gap.reason) });
    t.source.addEventListener("tick", event => t.seen.push(JSON.parse(event.data).n));
    t.source.onopen = () => t.states.push("open");
    t.source.onerror = () => t.states.push(t.source.readyState === t.source.CLOSED ? "closed" : "error");
  };
  return "";
}

function remove(name) {
  tabs[name].frame.remove();
  return "";
}

// whole says what is wrong with what a tab has seen: every number from the first one on, once, in order.
function whole(name) {
  const { seen } = tabs[name];
  const at = seen.findIndex((n, i) => i > 0 && n !== seen[i - 1] + 1);
  return at < 0 ? "" : name + " saw " + seen.slice(Math.max(0, at - 3), at + 3);
}
