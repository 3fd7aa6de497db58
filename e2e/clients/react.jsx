// A page that uses the hook of proxy/web/README.md as it stands there.
import { createElement as h, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useEventSource } from "./hook.js";

function Tick({ url }) {
  const { data, gaps } = useEventSource(url, "tick");
  return h("p", { id: "tick" }, data ? `n=${data.n} gaps=${gaps}` : "nothing yet");
}

function Page() {
  const [url, setURL] = useState("/ticks");
  window.go = (to) => { setURL(to); return ""; };
  return url ? h(Tick, { url }) : h("p", { id: "tick" }, "gone");
}

createRoot(document.getElementById("app")).render(h(StrictMode, null, h(Page)));
