// Streaming from the REST API of Firebase's Realtime Database (firebase.google.com/docs/reference/rest/database, "Streaming from the REST API"): put, patch,
// keep-alive, cancel, auth_revoked, and a redirect to the host where the data is.
import { answer, options, serve } from "./serve.mjs";

let data = options.data ?? {};
const open = new Set();
const seen = { asked: [] };
const event = (name, value) => `event: ${name}\ndata: ${JSON.stringify(value)}\n\n`;

function handle(request, response, url) {
  if (url.pathname !== "/rooms/main.json") return false;
  seen.asked.push(request.headers.accept ?? "");
  if (options.elsewhere) return response.writeHead(307, { Location: options.elsewhere + request.url }).end();
  if (!options.tokens.includes(url.searchParams.get("auth"))) return answer(response, 401, { error: "Auth token is expired" });
  if (request.headers.accept !== "text/event-stream") return answer(response, 200, data);
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache" });
  response.write(event("put", { path: "/", data }));
  response.token = url.searchParams.get("auth");
  const timer = setInterval(() => response.write(event("keep-alive", null)), options.keepalive ?? 30000);
  open.add(response);
  response.on("close", () => { clearInterval(timer); open.delete(response); });
}

const all = (f, which = () => true) => { const to = [...open].filter(which); to.forEach(f); return to.length; };
serve({ handle, upgrade: () => {}, doing: {
  seen: () => ({ ...seen, open: open.size }),
  put: ({ key, value }) => { data = { ...data, [key]: value }; return all((response) => response.write(event("put", { path: "/" + key, data: value }))); },
  patch: ({ values }) => { data = { ...data, ...values }; return all((response) => response.write(event("patch", { path: "/", data: values }))); },
  cut: () => all((response) => response.destroy()),
  revoke: ({ token }) => { options.tokens = options.tokens.filter((t) => t !== token); return all((response) => response.end(event("auth_revoked", "credential is no longer valid")), (response) => response.token === token); },
  cancel: ({ token }) => all((response) => response.end(event("cancel", null)), (response) => response.token === token),
} });
