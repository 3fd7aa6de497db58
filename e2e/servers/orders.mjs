// An application that polls, as people build them with Express: `node orders.mjs ADDRESS` listens there and says so. Who has logged in is told by a session's cookie;
// the page asks for the orders every 200 ms, and the time is in each answer. POST /control adds an order.
import express from "express";
import session from "express-session";

const orders = new Map(); // user -> list
const of = (user) => orders.get(user) ?? orders.set(user, [{ id: 1, state: "open" }]).get(user);
const app = express();
app.use(session({ name: "sid", secret: "not a secret", resave: false, saveUninitialized: false }));
app.use(express.json());

app.post("/control", (request, response) => {
  of(request.body.user).push(request.body.order);
  response.json(of(request.body.user).length);
});

app.post("/login", (request, response) => {
  request.session.user = request.query.user;
  response.sendStatus(204);
});

app.get("/api/orders", (request, response) => {
  const { user } = request.session;
  if (!user) return response.status(401).json({ error: "who?" });
  response.json({ serverTime: Date.now(), user, orders: of(user) });
});

app.get("/", (request, response) => response.send(`<!doctype html><link rel="icon" href="data:,"><title>orders</title><script>
document.cookie = "_ga=GA1.1.111222333.444555666";
document.cookie = "ui=compact";
const saw = [];
fetch("/login?user=ann", { method: "POST" }).then(() => setInterval(async () => {
  const answer = await fetch("/api/orders?_=" + Date.now());
  saw.push((await answer.json()).orders.length);
}, 200));
</script>`));

const [host, port] = process.argv[2].split(":");
app.listen(Number(port), host, () => console.log("listening"));
