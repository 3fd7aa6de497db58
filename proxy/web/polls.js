// Long polls for a page's tunnels, which websocket.js loads where events are held back on their way. The rules:
//
//   - A poll is asked for beside a stream that is silent. It is answered at once, since heartbeats are asked for; where its answer, which is
//     whole, comes while the stream is still silent, polls go on from the same id.
//   - Each event is shown in a task of its own, as a browser does it.
//   - Now and then a stream is tried beside the polls; when its first event comes in time, it goes on.
//   - Until when this tab polls is kept in sessionStorage, for its next page, which asks at once.

const memory = "sidestream.websocket"; // as in websocket.js
const again = 600000; // until a stream is tried once more...
const soon = 30000; // ...but for the first time: what kept it silent may have been a moment without network
const prompt = 3000; // within which it has to have an event
const patience = 40000; // for one answer

// noted is until when this tab polls, as far as is known.
const noted = () => {
  try {
    return sessionStorage.getItem(memory);
  } catch {}
};

// note keeps until when this tab polls.
const note = until => {
  try {
    sessionStorage.setItem(memory, until);
  } catch {}
  return until;
};

// task waits for one of its own. Timers are not asked: they wait for a second in a tab that is not seen.
const task = () => new Promise(go => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => go(port1.close());
  port2.postMessage(0);
});

// ask returns an answer, "" for none: what does not come from the sidecar, or is not whole, is none.
async function ask(url, abort) {
  const timer = setTimeout(() => abort.abort(), patience);
  try {
    const answer = await fetch(url, { headers: { Accept: "text/event-stream" }, cache: "no-store", credentials: "include", signal: abort.signal });
    const text = /^text\/event-stream/.test(answer.headers.get("Content-Type")) && await answer.text();
    if (answer.ok && /^:|\n\n$/.test(text)) return text;
  } catch {
  } finally {
    clearTimeout(timer);
  }
  return "";
}

// show calls hear's functions for the events of an answer, as long as it is the current one.
async function show(answer, hear, current) {
  let event = { data: [] };
  for (const line of answer.split("\n")) {
    const at = line.indexOf(":"), name = line.slice(0, at), said = line.slice(at + 2);
    if (line === "") {
      const { type = "message", data, id } = event;
      event = { data: [] };
      if (!data.length || !hear[type]) continue;
      await task();
      if (!current()) return;
      hear[type]({ data: data.join("\n"), lastEventId: id });
    } else if (name === "data") event.data.push(said);
    else if (name === "event") event.type = said;
    else if (name === "id") event.id = said;
  }
}

// start polls, unless source, a stream that has been silent so far, has an event first. hear has a function for each type of event, and for open and
// error; address(query) is where, and turn(next) makes next what the page listens to.
export async function start(source, hear, address, turn) {
  if (source.readyState > 1) return;
  const abort = new AbortController();
  let some = false, until = Date.now() + soon, live = true;
  const known = noted() > Date.now();
  for (const type in hear) if (type !== "open") source.addEventListener(type, () => some = true);
  let answer = await ask(address("heartbeat=event&poll=1"), abort);
  if (!answer || some || source.readyState > 1) return note(0);
  note(Date.now() + again);
  const close = () => {
    live = false;
    abort.abort();
  };
  turn({ close, polls: true });
  for (let own = known ? "poll=1" : "poll=held"; live; own = "poll=1") {
    if (Date.now() > until) {
      until = note(Date.now() + again);
      tryStream(address, () => {
        note(0);
        if (live) turn(listen(address, hear));
      });
    }
    if (/^event: stream\.busy$/m.test(answer)) return hear["stream.busy"]();
    if (!answer || /^retry/.test(answer)) return hear.error();
    hear.open();
    await show(answer, hear, () => live);
    if (live) answer = await ask(address(own), abort);
  }
}

// listen is a stream again.
function listen(address, hear) {
  const source = new EventSource(address("heartbeat=event"), { withCredentials: true });
  for (const type in hear) source.addEventListener(type, hear[type]);
  return source;
}

// tryStream calls works if a stream's first event comes in time.
function tryStream(address, works) {
  const source = new EventSource(address("heartbeat=event"), { withCredentials: true });
  const timer = setTimeout(() => source.close(), prompt);
  source.onerror = () => source.close();
  source.addEventListener("stream.heartbeat", () => {
    clearTimeout(timer);
    source.close();
    works();
  });
}
