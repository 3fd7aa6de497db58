// The part of Kubernetes' API that watches pods (kubernetes.io/docs/reference/using-api/api-concepts): a list with a resourceVersion, changes after one,
// bookmarks, and 410, as a status or within the answer, for one that is too old. What it knows outlives nothing but its connections.
import { answer, options, serve } from "./serve.mjs";

let version = 1000, compacted = 0, inAnswer = true;
const pods = new Map(); // by name
const changes = [];
const watchers = new Set();
const seen = { lists: 0, watches: [], refused: 0 };
const status = (code, reason, message) => ({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code });
const expired = (from) => status(410, "Expired", `too old resource version: ${from} (${compacted})`);

function handle(request, response, url) {
  if (url.pathname !== "/api/v1/namespaces/default/pods") return false;
  const token = request.headers.authorization;
  if (token !== "Bearer " + options.token) {
    seen.refused++;
    return token === "Bearer viewer" ? answer(response, 403, status(403, "Forbidden", 'pods is forbidden: User "viewer" cannot list resource "pods"'))
      : answer(response, 401, status(401, "Unauthorized", "Unauthorized"));
  }
  if (!["1", "true"].includes(url.searchParams.get("watch"))) {
    seen.lists++;
    return answer(response, 200, { kind: "PodList", apiVersion: "v1", metadata: { resourceVersion: String(version) }, items: [...pods.values()] });
  }
  const from = Number(url.searchParams.get("resourceVersion"));
  seen.watches.push(String(from));
  if (from < compacted && !inAnswer) return answer(response, 410, expired(from));
  response.writeHead(200, { "Content-Type": "application/json" });
  response.flushHeaders();
  if (from < compacted) return response.end(JSON.stringify({ type: "ERROR", object: expired(from) }) + "\n");
  for (const c of changes) if (c.version > from) response.write(c.line);
  if (url.searchParams.get("allowWatchBookmarks") === "true") response.bookmarks = true;
  watchers.add(response);
  response.on("close", () => watchers.delete(response));
}

const all = (f) => { const open = [...watchers]; open.forEach(f); return open.length; };
const bookmark = () => JSON.stringify({ type: "BOOKMARK", object: { kind: "Pod", apiVersion: "v1", metadata: { resourceVersion: String(version), creationTimestamp: null }, spec: { containers: null }, status: {} } }) + "\n";

function pod({ type, name, phase }) {
  const object = { kind: "Pod", apiVersion: "v1", metadata: { name, namespace: "default", uid: "uid-" + name, resourceVersion: String(++version), labels: { app: "shop" }, annotations: { secret: "not for pages" } }, spec: {}, status: { phase } };
  if (type === "DELETED") pods.delete(name); else pods.set(name, object);
  const line = JSON.stringify({ type, object }) + "\n";
  changes.push({ version, line });
  return line;
}

serve({ handle, upgrade: () => {}, doing: {
  seen: () => ({ ...seen, open: watchers.size }),
  pod: (of) => { const line = pod(of); return all((response) => response.write(line)); },
  // tear cuts each answer in the middle of a change.
  tear: (of) => { const line = pod(of); return all((response) => response.write(line.slice(0, line.length / 2), () => response.destroy())); },
  bookmark: () => { version += 100; return all((response) => response.bookmarks && response.write(bookmark())); },
  end: () => all((response) => response.end()), // as after timeoutSeconds
  error: () => all((response) => response.end(JSON.stringify({ type: "ERROR", object: status(500, "InternalError", "etcd event received with PrevKv=nil") }) + "\n")),
  compact: ({ as }) => { compacted = ++version; changes.length = 0; inAnswer = as === "event"; return all((response) => response.destroy()); },
} });
