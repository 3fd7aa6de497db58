// A desktop, as noVNC's documentation shows it.
import RFB from "@novnc/novnc";

const rfb = new RFB(document.getElementById("screen"), "ws://" + location.host + "/websockify");
let open = false, lost = 0;
rfb.addEventListener("connect", () => {
  open = true;
  rfb.focus();
});
rfb.addEventListener("disconnect", () => lost++);
window.state = () => ({ open, lost, shown: "" });
