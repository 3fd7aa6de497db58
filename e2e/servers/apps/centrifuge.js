// A room for a chat over Centrifugo's client, which is Grafana Live's.
"use strict";
const input = document.querySelector("input"), list = document.querySelector("ol");
const centrifuge = new Centrifuge("ws://" + location.host + "/connection/websocket");
const room = centrifuge.newSubscription("room");
let lost = 0;
centrifuge.on("connecting", ({ code }) => lost += code > 0);
room.on("publication", ({ data }) => list.append(Object.assign(document.createElement("li"), { textContent: data })));
room.subscribe();
centrifuge.connect();
document.querySelector("form").onsubmit = () => {
  room.publish(input.value);
  input.value = "";
  return false;
};
window.state = () => ({ open: room.state === "subscribed", lost, shown: [...list.children].map(item => item.textContent).join("\n") });
