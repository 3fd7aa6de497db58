// A document that is edited by several, as Yjs's documentation shows it with Quill. What breaks is counted in lost.
import * as Y from "yjs";
import { WebsocketProvider } from "y-websocket";
import { QuillBinding } from "y-quill";
import Quill from "quill";

const doc = new Y.Doc();
const provider = new WebsocketProvider("ws://" + location.host + "/yjs", "room", doc, { disableBc: true });
const quill = new Quill("#editor", { theme: "snow" });
new QuillBinding(doc.getText("quill"), quill, provider.awareness);
let synced = false, lost = 0;
provider.on("sync", state => synced = state);
provider.on("connection-close", () => lost++);
provider.on("connection-error", () => lost++);
quill.focus();
Object.assign(window, { state: () => ({ open: synced, lost, shown: quill.getText() }) });
