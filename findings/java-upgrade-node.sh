#!/usr/bin/env bash
# Guess: an ordinary GET of Java's HttpClient is answered by a service in Node as that of every other client is. That the client offers HTTP/2 in clear with it (Upgrade: h2c), as it does by default,
#   is an offer that a server may leave alone (RFC 9110, section 7.8).
# Instead: Node gives whatever asks for an upgrade to who listens for upgrades, and not to the application; somebody does as soon as the service has a WebSocket. `ws` answers 400, "Invalid Upgrade
#   header"; socket.io says nothing and ends the connection after a second. Without a WebSocket, and with the client's version set to HTTP_1_1, the application answers.
# Version: OpenJDK 17, Node 20.20, ws 8.23.0, socket.io 4.8.4.
# Why it matters: these are the services that a sidecar stands before. It is the hop that the offer is made to: it takes the offer out, and such a client's requests, which fail at the service itself,
#   are answered through it.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --no-audit --no-fund --silent ws@8.23.0 socket.io@4.8.4 >/dev/null 2>&1
cat >server.mjs <<'JS'
import fs from "node:fs";
import http from "node:http";
import { Server } from "socket.io";
import { WebSocketServer } from "ws";

const listens = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));
const [bare, withWs, withSocketIO] = [1, 2, 3].map(() => http.createServer((request, answer) => answer.end("the application")));
new WebSocketServer({ server: withWs, path: "/feed" });
new Server(withSocketIO);
fs.writeFileSync("ports.tmp", `${await listens(bare)} ${await listens(withWs)} ${await listens(withSocketIO)}`);
fs.renameSync("ports.tmp", "ports");
JS
cat >Ask.java <<'JAVA'
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Ask {
    public static void main(String[] ports) throws Exception {
        String[] names = {"Node alone", "with ws at another path", "with socket.io"};
        for (HttpClient.Version version : new HttpClient.Version[] {HttpClient.Version.HTTP_2, HttpClient.Version.HTTP_1_1}) {
            HttpClient client = HttpClient.newBuilder().version(version).build();
            for (int i = 0; i < ports.length; i++) {
                String said;
                try {
                    HttpResponse<String> answer = client.send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + ports[i] + "/api/orders")).build(), HttpResponse.BodyHandlers.ofString());
                    said = answer.statusCode() + " by " + answer.body().trim();
                } catch (java.io.IOException err) {
                    said = "no answer";
                }
                System.out.println(version + (version == HttpClient.Version.HTTP_2 ? ", the default, " : ", ") + names[i] + ": " + said);
            }
        }
        System.exit(0);
    }
}
JAVA
node server.mjs & trap 'kill %1; rm -rf "$PWD"' EXIT
until [ -f ports ]; do sleep 0.1; done
timeout 60 java Ask.java $(cat ports) | tee seen
diff seen - <<'WANT'
HTTP_2, the default, Node alone: 200 by the application
HTTP_2, the default, with ws at another path: 400 by Invalid Upgrade header
HTTP_2, the default, with socket.io: no answer
HTTP_1_1, Node alone: 200 by the application
HTTP_1_1, with ws at another path: 200 by the application
HTTP_1_1, with socket.io: 200 by the application
WANT
# 2026-12-01, OpenJDK 17.0.15, Node 20.20.2: as above.
