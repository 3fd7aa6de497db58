// A room for a chat over MQTT.js, at QoS 2: exactly once.
"use strict";
const input = document.querySelector("input"), list = document.querySelector("ol");
const client = mqtt.connect("ws://" + location.host + "/mqtt", { reconnectPeriod: 1000 });
let open = false, lost = 0;
client.on("connect", () => client.subscribe("room", { qos: 2 }, () => open = true));
client.on("close", () => lost++);
client.on("message", (_, text) => list.append(Object.assign(document.createElement("li"), { textContent: String(text) })));
document.querySelector("form").onsubmit = () => {
  client.publish("room", input.value, { qos: 2 });
  input.value = "";
  return false;
};
window.state = () => ({ open, lost, shown: [...list.children].map(item => item.textContent).join("\n") });
