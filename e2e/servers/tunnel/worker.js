// A worker whose WebSocket is the tunnelled one too.
"use strict";
importScripts("/_sidestream/websocket.js");
onmessage = ({ data: { url, text } }) => {
  const ws = new WebSocket(url);
  ws.onopen = () => ws.send(text);
  ws.onmessage = ({ data }) => {
    postMessage(data);
    ws.close(3000, "enough");
  };
  ws.onclose = ({ code, reason }) => postMessage(code + " " + reason);
};
