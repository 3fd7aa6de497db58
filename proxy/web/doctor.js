// The page /_sidestream/doctor: what stands between the sidecar and this browser. The rules:
//
//   - It asks the sidecar's probe alone, at its own address, whatever path a proxy has put that under; see proxy/probe.
//   - It keeps within the six connections that a browser has for a host over HTTP/1.1.
//   - What it shows, and what is copied, holds no cookie, token or address, but the site's own.
//   - It is the sibling of the command (proxy/doctor), which tells what to write where; both judge alike.

//! both
(() => {
  "use strict";

  const patience = 10000; // milliseconds that an event which does not come is waited for
  const every = 300; // milliseconds between two events
  const $ = (id) => document.getElementById(id);
  const at = (path) => new URL("doctor/" + path + (path.includes("?") ? "&" : "?") + "r=" + Math.random().toString(36).slice(2), document.baseURI);
  const now = () => performance.timeOrigin + performance.now();
  const time = (ms) => (ms < 1 ? "less than 1 ms" : ms < 1000 ? Math.round(ms) + " ms" : (ms / 1000).toFixed(ms < 10000 ? 1 : 0) + " s");
  const why = (error) => (error.name === "TimeoutError" ? "nothing came in time" : error.name === "TypeError" ? "the network failed" : String(error.message || error));

  // What products leave in the header of an answer, as Recognise of proxy/probe has it.
  const marks = [
    ["server", /nginx|openresty/i, "nginx"], ["server", /haproxy/i, "HAProxy"], ["server", /apache/i, "Apache"], ["server", /caddy/i, "Caddy"], ["server", /varnish/i, "Varnish"],
    ["server", /lighttpd/i, "lighttpd"], ["server", /squid/i, "Squid"], ["server", /envoy/i, "Envoy"], ["server", /awselb/i, "ALB"], ["server", /cloudflare/i, "Cloudflare"],
    ["via", /varnish/i, "Varnish"], ["via", /squid/i, "Squid"], ["via", /caddy/i, "Caddy"], ["x-varnish", /^/, "Varnish"], ["x-squid-error", /^/, "Squid"],
    ["x-cache", / from (?!cloudfront)/i, "Squid"], ["x-cache", /cloudfront/i, "CloudFront"], ["cf-ray", /^/, "Cloudflare"], ["x-amz-cf-id", /^/, "CloudFront"],
    ["x-amzn-trace-id", /^/, "ALB"], ["x-envoy-upstream-service-time", /^/, "Envoy"],
  ];

  let findings, products, instances, ahead, trip, begun;

  // note takes down what an answer tells of its way.
  const note = (headers, more = []) => {
    for (const [name, pattern, product] of marks) if (headers.has(name) && pattern.test(headers.get(name))) products.add(product);
    for (const product of more) products.add(product);
    if (headers.has("sidestream-instance")) instances.add(headers.get("sidestream-instance"));
  };

  const get = async (path, ms = patience, init = {}) => {
    const answer = await fetch(at(path), { cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(ms), ...init });
    note(answer.headers);
    return answer;
  };

  const ask = async (headers) => {
    const answer = await get("request?host=" + encodeURIComponent(location.host), patience, { headers });
    if (answer.status === 429) throw new Error("the probe is busy; try again in a minute");
    const said = await answer.json();
    if (!said.sidestream || !answer.ok) throw new Error("answered " + answer.status);
    note(answer.headers, said.products);
    return said;
  };

  // watch reads one of the probe's streams to its end. what: clean, cut or late.
  const watch = async (plan, length) => {
    const course = { arrivals: [], begun: now(), end: "clean", coding: "" };
    try {
      const answer = await get("stream?" + plan, length + patience, { headers: { Accept: "text/event-stream" } });
      course.status = answer.status;
      course.coding = answer.headers.get("content-encoding") || "";
      let text = "";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part; !(part = await reader.read()).done; ) {
        course.last = now();
        text += part.value;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
          const found = /"at":(\d+)/.exec(text.slice(0, end));
          if (found) course.arrivals.push({ sent: found[1] / 1000 - ahead, at: course.last });
        }
      }
    } catch (error) {
      course.end = error.name === "TimeoutError" ? "late" : "cut";
      course.error = why(error);
    }
    course.ended = now();
    return course;
  };

  // judge says how events that are sent one by one have arrived; it is judge of proxy/doctor.
  const judge = (arrivals, slack = 25) => {
    const n = arrivals.length;
    if (!n) return ["never", 0];
    const lates = arrivals.map((a) => a.at - a.sent).sort((a, b) => a - b);
    const late = Math.max(0, lates[n >> 1] - trip / 2);
    const moments = 1 + arrivals.filter((a, i) => i && a.at - arrivals[i - 1].at > every / 10).length;
    const behind = arrivals.filter((a, i) => i + 1 < n && a.at - arrivals[i + 1].sent > -slack && a.at - arrivals[i + 1].sent < every / 2).length;
    if (n > 1 && arrivals[0].at - arrivals[n - 1].sent > -slack) return ["end", late];
    if (behind * 2 > n && moments >= n * 0.7) return ["behind", late];
    if (moments < n * 0.7) return ["lumps", late];
    return [late > Math.max(100, 3 * trip) ? "late" : "prompt", late];
  };
  const manners = {
    never: "no event arrived", end: "no event arrived before the end of the answer", behind: "each event arrived when the next one was sent", lumps: "events arrived several at once",
    late: "events arrived late", prompt: "events arrived one by one",
  };

  const checks = {
    // The first one: without it nothing else can be said.
    async server() {
      trip = Infinity;
      let said;
      for (let i = 0; i < 5; i++) {
        const start = now();
        said = await ask();
        const took = now() - start;
        if (took < trip) [trip, ahead] = [took, said.time / 1000 - (start + took / 2)];
      }
      const entry = performance.getEntriesByType("resource").findLast((e) => e.name.includes("/doctor/request") && e.nextHopProtocol);
      const spoken = { "http/1.1": "HTTP/1.1", h2: "HTTP/2", h3: "HTTP/3" }[entry && entry.nextHopProtocol] || (entry && entry.nextHopProtocol) || "HTTP";
      add("server", spoken === "HTTP/1.1" ? "note" : "ok", `it answers within ${time(trip)}; ${spoken} to this browser, ${said.proto} to the server`,
        spoken === "HTTP/1.1" ? "with HTTP/1.1 a browser has six connections for all tabs of a site" : "");
      const off = Math.abs(ahead);
      add("clock", off > 25000 ? "fix" : off > 2000 ? "note" : "ok", `this device's clock and the server's differ by ${time(off)}`, off > 2000 ? "logins by token may be taken for expired; let the clock be set by itself" : "");
    },
    async events() {
      const course = await watch("events=10&every=" + every, 10 * every);
      if (course.status && course.status !== 200) return add("events", "note", "the server answered " + course.status, "try again in a minute");
      const [manner, late] = judge(course.arrivals);
      const good = manner === "prompt" && course.arrivals.length === 10;
      add("events", good ? "ok" : "fix", manners[manner] + (manner === "late" || manner === "prompt" ? ", " + time(late) + " after they were sent" : "") + (course.arrivals.length < 10 && course.error ? "; " + course.error : ""),
        good ? "" : "something on the way holds them back: live pages get them late, or go on with single requests");
      add("compression", course.coding ? "note" : "ok", course.coding ? "events are compressed on the way (" + course.coding + ")" : "events are not compressed", course.coding ? "the server asks for the opposite" : "");
    },
    eventSource: () => new Promise((done) => {
      const source = new EventSource(at("stream?events=6&every=" + every)), arrivals = [];
      const finish = (level, seen, means) => { source.close(); clearTimeout(timer); add("EventSource", level, seen, means); done(); };
      const timer = setTimeout(() => finish("fix", arrivals.length ? manners.lumps : manners.never, "pages that use EventSource alone get nothing"), 6 * every + patience);
      source.onmessage = (e) => {
        arrivals.push({ sent: JSON.parse(e.data).at / 1000 - ahead, at: now() });
        if (arrivals.length < 6) return;
        const [manner] = judge(arrivals);
        finish(manner === "prompt" ? "ok" : "fix", manners[manner], manner === "prompt" ? "" : "pages that use EventSource alone get events late");
      };
      source.onerror = () => {
        if (arrivals.length < 6) finish("fix", source.readyState === 2 ? "the browser gave up" : "the connection broke after " + arrivals.length + " events", "pages that use EventSource alone get nothing, or gaps");
      };
    }),
    async cut() {
      const course = await watch("events=3&every=50&end=cut", 200);
      if (course.status && course.status !== 200 && course.status < 500) return add("cut", "note", "the server answered " + course.status, "try again in a minute");
      if (course.end === "clean" && course.status === 200) add("cut", "fix", "a connection that the server cuts looks like an answer that is complete", "some pages do not come back after a restart of the server");
      else if (course.end === "late") add("cut", "fix", "that the server has cut a connection is not noticed here", "pages wait for events that nobody sends");
      else add("cut", "ok", "a connection that the server cuts is seen to be cut");
    },
    async poll() {
      const start = now();
      const answer = await get("poll");
      const text = await answer.text();
      const took = now() - start;
      if (answer.status !== 200 || !text.includes('"n":1')) add("long poll", "fix", "a long poll was answered " + answer.status, "where events are held back, nothing is left to go on with");
      else add("long poll", took > 1000 + 3 * trip + 500 ? "note" : "ok", `a long poll of 1 s was answered after ${time(took)}`);
    },
    webSocket: () => new Promise((done) => {
      const url = at("ws");
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      const socket = new WebSocket(url);
      const finish = (good) => {
        clearTimeout(timer);
        socket.onclose = socket.onmessage = null;
        socket.close();
        add("WebSocket", good ? "ok" : "note", good ? "WebSockets pass" : "WebSockets do not pass", good ? "" : "live pages do not need them, unless they still use the old protocol");
        done();
      };
      const timer = setTimeout(finish, patience, false);
      socket.onopen = () => socket.send("doctor");
      socket.onmessage = (e) => finish(e.data === "doctor");
      socket.onclose = () => finish(false);
    }),
    async headers() {
      const id = "doctor-" + Math.random().toString(36).slice(2), cookie = Math.random().toString(36).slice(2, 10);
      document.cookie = `sidestream_doctor=${cookie}; max-age=60; samesite=strict; path=${new URL("doctor", document.baseURI).pathname}`;
      const said = await ask({ Accept: "text/event-stream", "Last-Event-ID": id, "Cache-Control": "no-cache", Authorization: "Bearer sidestream-doctor" });
      document.cookie = `sidestream_doctor=; max-age=0; path=${new URL("doctor", document.baseURI).pathname}`;
      const first = (name) => (said.header[name] || [])[0];
      const lost = [];
      if (first("Last-Event-Id") !== id) lost.push("Last-Event-ID");
      if (first("Accept") !== "text/event-stream") lost.push("Accept");
      if (!said.authorization) lost.push("Authorization");
      if (navigator.cookieEnabled && !said.cookies.some((c) => c.name === "sidestream_doctor" && c.length === cookie.length)) lost.push("Cookie");
      add("headers", lost.length ? "fix" : "ok", lost.length ? lost.join(", ") + " did not arrive as sent" : "Last-Event-ID, Accept, Authorization and cookies arrive as sent",
        lost.length ? "logins, or events after a break, may be lost" : "");
      if (said.host.toLowerCase() !== location.host) add("host", "note", "the server is told another host than this page's", "pages without HTTPS may be refused as of another origin");
    },
    async post() {
      const post = async (size) => {
        try {
          const answer = await get("post", 3 * patience, { method: "POST", body: new Uint8Array(size) });
          return answer.ok && (await answer.json()).bytes === size;
        } catch {
          return false;
        }
      };
      const sizes = [[4 << 20, "4 MiB"], [1 << 20, "1 MiB"], [256 << 10, "256 KiB"], [64 << 10, "64 KiB"], [1, "a few bytes"]];
      for (const [i, [size, name]] of sizes.entries()) {
        if (await post(size)) return add("upload", !i ? "ok" : size < 1 << 20 ? "fix" : "note", name + " can be sent at once" + (i ? ", " + sizes[i - 1][1] + " cannot" : ""));
      }
      add("upload", "fix", "nothing can be sent", "what pages send by POST does not arrive");
    },
    // Streams in which nothing is sent, side by side with the other checks: three connections of six.
    async silence() {
      const most = Number($("idle").value) * 1000;
      const courses = await Promise.all([most / 3, (most * 2) / 3, most].map(async (silence) => [silence, await watch(`events=2&every=10&silence=${Math.round(silence)}`, silence)]));
      const lost = courses.filter(([, c]) => c.status === 200 && c.arrivals.length < 2 || !c.status);
      if (courses.some(([, c]) => c.status && c.status !== 200)) return add("silence", "note", "how long a silence may be was not found out", "try again in a minute");
      if (!lost.length) return add("silence", "ok", `a connection on which nothing is sent for ${time(most)} lives on`);
      const least = Math.min(...lost.map(([silence, c]) => (c.end === "late" ? silence : c.ended - (c.last || c.begun))));
      const word = lost.every(([, c]) => c.end === "late") ? "is forgotten without a word before " : "is cut after ";
      add("silence", least < 20000 ? "fix" : "note", "a connection on which nothing is sent " + word + time(least), "quiet live pages are interrupted again and again where the server sends heartbeats less often");
    },
    async servers() {
      for (let i = 0; i < 3; i++) await ask();
      if (instances.size > 1) add("replicas", "note", instances.size + " servers answer in turns");
    },
  };
  const names = { server: "server", eventSource: "EventSource", webSocket: "WebSocket", poll: "long poll", post: "upload", servers: "replicas" };

  const run = async (key) => {
    $("doing").textContent = "Looking at: " + (names[key] || key) + " …";
    try {
      await checks[key]();
    } catch (error) {
      add(names[key] || key, key === "server" ? "fix" : "note", "could not be looked at: " + why(error));
    }
  };

  const look = async () => {
    [findings, products, instances, ahead, trip, begun] = [[], new Set(), new Set(), 0, 0, new Date()];
    $("copy").disabled = $("look").disabled = true;
    $("copied").textContent = "";
    show(false);
    await run("server");
    if (!findings.some((f) => f.check === "server" && f.level === "fix")) {
      const silence = run("silence");
      for (const key of ["events", "eventSource", "cut", "poll", "webSocket", "headers", "post", "servers"]) await run(key);
      $("doing").textContent = `Looking at: silence, for up to ${$("idle").value} seconds …`;
      await silence;
    }
    show(true);
  };

  const add = (check, level, seen, means = "") => {
    findings.push({ check, level, seen, means });
    show(false);
  };

  const grave = ["fix", "note", "ok"];
  const word = (level) => (level === "fix" ? "wrong" : level);

  const element = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);

  const show = (done) => {
    findings.sort((a, b) => grave.indexOf(a.level) - grave.indexOf(b.level)); // stable
    $("findings").replaceChildren(...findings.map((f) => {
      const row = element("li", ""), level = element("span", word(f.level), { className: "badge" });
      level.dataset.level = f.level;
      row.append(level, element("b", f.check), element("span", f.seen));
      if (f.means) row.append(element("small", f.means));
      return row;
    }));
    const wrong = findings.filter((f) => f.level === "fix").length;
    const verdict = $("verdict");
    verdict.textContent = wrong ? wrong + (wrong > 1 ? " things are wrong" : " thing is wrong") : done ? "yes" : "looking";
    verdict.dataset.level = wrong ? "fix" : done ? "ok" : "";
    $("report").value = report(done);
    if (!done) return;
    $("doing").textContent = "";
    $("copy").disabled = $("look").disabled = false;
    document.body.dataset.done = "true";
  };

  const report = (done) => [
    "Sidestream doctor " + begun.toISOString() + (done ? "" : " (not finished)"),
    location.origin + location.pathname,
    navigator.userAgent,
    "between: " + ([...products].join(", ") || "nothing that was recognised"),
    "",
    ...findings.map((f) => word(f.level).toUpperCase().padEnd(6) + f.check.padEnd(13) + f.seen + (f.means ? "\n" + " ".repeat(19) + f.means : "")),
  ].join("\n");

  const copy = async () => {
    try {
      await navigator.clipboard.writeText($("report").value);
    } catch { // which is for HTTPS alone
      $("report").select();
      document.execCommand("copy");
    }
    $("copied").textContent = "copied";
  };

  const asked = new URLSearchParams(location.search).get("idle");
  if (/^[1-9][0-9]{0,2}$/.test(asked) && asked <= 300) {
    $("idle").prepend(element("option", asked + " seconds", { value: asked }));
    $("idle").value = asked;
  }
  $("copy").addEventListener("click", copy);
  $("again").addEventListener("submit", (e) => { e.preventDefault(); delete document.body.dataset.done; look(); });
  look();
})();
