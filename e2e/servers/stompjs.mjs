// Publishes messages with the official STOMP client, each confirmed by a receipt, and ends:
//
//	node stompjs.mjs URL LOGIN PASSCODE '[{"destination","headers","body" or "base64"},...]'
import { Client } from "@stomp/stompjs";
import { WebSocket } from "ws";

Object.assign(globalThis, { WebSocket });
const [url, login, passcode, messages] = process.argv.slice(2);
const client = new Client({ brokerURL: url, connectHeaders: { login, passcode }, reconnectDelay: 0 });
client.onStompError = frame => { console.error(frame.headers.message); process.exit(1); };
client.onWebSocketClose = () => process.exit(1);
client.onConnect = async () => {
  let n = 0;
  for (const m of JSON.parse(messages)) {
    const receipt = `p-${n++}`;
    const confirmed = new Promise(resolve => client.watchForReceipt(receipt, resolve));
    const body = m.base64 === undefined ? { body: m.body } : { binaryBody: new Uint8Array(Buffer.from(m.base64, "base64")) };
    client.publish({ destination: m.destination, headers: { ...m.headers, receipt }, ...body });
    await confirmed;
  }
  process.exit(0);
};
client.activate();
