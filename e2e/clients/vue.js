// A page that uses the composable of proxy/web/README.md as it stands there.
import { createApp, h, ref } from "vue";
import { useEventSource } from "./hook.js";

const Tick = {
  props: ["url"],
  setup(props) {
    const { data, gaps } = useEventSource(() => props.url, "tick");
    return () => h("p", { id: "tick" }, data.value ? `n=${data.value.n} gaps=${gaps.value}` : "nothing yet");
  },
};

createApp({
  setup() {
    const url = ref("/ticks");
    window.go = (to) => { url.value = to; return ""; };
    return () => url.value ? h(Tick, { url: url.value }) : h("p", { id: "tick" }, "gone");
  },
}).mount("#app");
