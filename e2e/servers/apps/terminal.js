// A shell's terminal, as xterm.js's documentation shows it.
"use strict";
const terminal = new Terminal({ cols: 80, rows: 30, scrollback: 10000 });
terminal.open(document.getElementById("terminal"));
const socket = new WebSocket("ws://" + location.host + "/terminal");
terminal.loadAddon(new AttachAddon.AttachAddon(socket));
terminal.focus();
let lost = 0;
socket.onclose = () => lost++;
window.state = () => {
  const lines = [], buffer = terminal.buffer.active;
  for (let n = 0; n < buffer.length; n++) lines.push(buffer.getLine(n).translateToString(true));
  return { open: socket.readyState === 1, lost, shown: lines.join("\n").trimEnd() };
};
