// What our own small servers have in common: `node NAME.mjs ADDRESS [JSON options]` listens there, says so, and does what
// is POSTed to /control as {"do": NAME, ...}, answering with what became of it.
import http from "node:http";

export const options = JSON.parse(process.argv[3] ?? "{}");

export async function body(request) {
  let text = "";
  for await (const part of request) text += part;
  return text;
}

// serve answers with handle(request, response, url), or 404 when that returns false; doing are the control's commands.
export function serve({ handle = () => false, upgrade, doing }) {
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url, "http://" + request.headers.host);
    if (url.pathname === "/control") {
      const command = JSON.parse(await body(request));
      const result = await doing[command.do](command);
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify(result ?? null));
      return;
    }
    if ((await handle(request, response, url)) === false) answer(response, 404, "no such thing");
  });
  server.on("upgrade", (request, socket, head) =>
    upgrade(request, socket, head, new URL(request.url, "http://" + request.headers.host)));
  const [host, port] = process.argv[2].split(":");
  server.listen(Number(port), host, () => console.log("listening"));
  return server;
}

export function answer(response, status, data) {
  response.statusCode = status;
  response.setHeader("Content-Type", "application/json");
  response.end(typeof data === "string" ? data : JSON.stringify(data));
}

// refuse answers an upgrade with a status.
export function refuse(socket, status) {
  socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
