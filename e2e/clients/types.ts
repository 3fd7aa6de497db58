import Source, { SidestreamEventSource as Named } from "/_sidestream/events.mjs";
import { WebSocket as Tunnel } from "/_sidestream/websocket.mjs";

const prices = new Named("/events/prices", { gap: ({ reason, missed }) => console.log(reason, missed === null ? 0 : missed + 1), withCredentials: true });
prices.onmessage = e => console.log(JSON.parse(e.data));
prices.addEventListener("stream.refused", e => console.log(e.data.length, e.lastEventId));
prices.addEventListener("price", e => console.log(e.data));
const other: EventSource = new Source(new URL("https://app.example/events"), { auth: "ticket", authorization: async () => "Bearer x", shared: false });
const classic: SidestreamEventSource = new SidestreamEventSource("/events");
let kept: Named = classic;
kept.close();
const socket: WebSocket = new Tunnel("wss://app.example/socket", ["a"]);
socket.binaryType = "arraybuffer";
if (other.readyState === Named.CLOSED) console.log(Tunnel.OPEN);
// @ts-expect-error: it is not a kind of auth
new Named("/x", { auth: "cookie" });
// @ts-expect-error: gaps have no such field
new Named("/x", { gap: gap => gap.lost });
