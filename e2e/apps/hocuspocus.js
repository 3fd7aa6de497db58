// A document that is edited by several, as Hocuspocus's documentation shows it.
import { HocuspocusProvider } from "@hocuspocus/provider";
import { QuillBinding } from "y-quill";
import Quill from "quill";
import * as Y from "yjs";

const document_ = new Y.Doc();
const provider = new HocuspocusProvider({ url: "ws://" + location.host + "/hocuspocus", name: "room", document: document_ });
const quill = new Quill("#editor", { theme: "snow" });
new QuillBinding(document_.getText("quill"), quill, provider.awareness);
let lost = 0;
provider.on("disconnect", () => lost++);
quill.focus();
window.state = () => ({ open: provider.isSynced, lost, shown: quill.getText() });
