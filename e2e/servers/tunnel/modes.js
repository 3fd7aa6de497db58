// talk opens a WebSocket, says text, and writes down what happens, until close is called on it.
"use strict";
const native = performance.getEntriesByType ? Object.getPrototypeOf(WebSocket) : null; // EventTarget where nothing was replaced
const problems = [];
addEventListener("error", event => problems.push(event.message));
addEventListener("unhandledrejection", event => problems.push(String(event.reason)));
const talks = {};

function talk(name, url, text) {
  const ws = new WebSocket(url), log = [];
  talks[name] = { ws, log };
  ws.onopen = () => {
    log.push("open");
    talks[name].cookie = document.cookie;
    if (text) ws.send(text);
  };
  ws.onmessage = ({ data }) => log.push(data);
  ws.onerror = () => log.push("error");
  ws.onclose = ({ code }) => log.push("close " + code);
  return "";
}

// work does the same in a worker.
function work(url, text) {
  const worker = new Worker("/worker.js"), log = [];
  talks.worker = { log };
  worker.onmessage = ({ data }) => log.push(data);
  worker.onerror = event => problems.push(event.message);
  worker.postMessage({ url, text });
  return "";
}
