#!/usr/bin/env bash
# Guess: GraphQL over SSE ends a subscription with the event "complete", and whatever reads event streams by the standard delivers it as it does "next". A client that comes back
#   after a clean end of the stream stops at it.
# Instead: gqlgen sends "complete" without any data, and an event without data is none by the HTML standard: it is dropped. A client that follows the standard hears two results and
#   no end; one that comes back by itself asks again, and the subscription begins anew, for ever. The server of graphql-sse sends an empty "data:", and the same client stops. graphql-sse's
#   own client, which reads what is no event as well, hears both.
# Version: github.com/99designs/gqlgen v0.17.98 with Go 1.27; npm eventsource-client 1.2.0, which reads with eventsource-parser, and graphql-sse 2.6.1; Node 20.
# Why it matters: who puts a stream of gqlgen's behind the sidecar, or a page with a general client in front of one, must not wait for "complete": say with DONE which result is the last.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund eventsource-client@1.2.0 graphql-sse@2.6.1 graphql@16.11.0 >/dev/null 2>&1
mkdir server && cd server
cat >main.go <<'GO'
package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/99designs/gqlgen/graphql/handler/testserver"
	"github.com/99designs/gqlgen/graphql/handler/transport"
)

func main() {
	s := testserver.New()
	s.AddTransport(transport.SSE{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := make(chan bool)
		go func() { // two results, and the end
			s.SendNextSubscriptionMessage()
			s.SendNextSubscriptionMessage()
			s.SendCompleteSubscriptionMessage()
			close(said)
		}()
		s.ServeHTTP(w, r)
		<-said
	}))
	fmt.Println(server.URL)
	time.Sleep(time.Minute)
}
GO
go mod init server 2>/dev/null && export GOTOOLCHAIN=go1.27.3 GOFLAGS=-mod=mod && go get github.com/99designs/gqlgen@v0.17.98 >/dev/null 2>&1 && go build -o ../gqlgen .
cd ..
cat >look.mjs <<'JS'
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { createEventSource } from "eventsource-client";
import { createClient } from "graphql-sse";
import { createHandler } from "graphql-sse/lib/use/http";
import { GraphQLObjectType, GraphQLSchema, GraphQLString } from "graphql";

const query = "subscription { name }";
const gqlgen = spawn("./gqlgen");
const first = await new Promise((heard) => gqlgen.stdout.once("data", (text) => heard(String(text).trim())));
const fields = { name: { type: GraphQLString, resolve: () => "test", async *subscribe() { yield {}; yield {}; } } };
const handler = createHandler({ schema: new GraphQLSchema({ query: new GraphQLObjectType({ name: "Query", fields }), subscription: new GraphQLObjectType({ name: "Subscription", fields }) }) });
const other = createServer(handler);
await new Promise((heard) => other.listen(0, "127.0.0.1", heard));

for (const [name, url] of [["gqlgen", first], ["graphql-sse", `http://127.0.0.1:${other.address().port}`]]) {
  const ask = { method: "POST", headers: { "Content-Type": "application/json", Accept: "text/event-stream" }, body: JSON.stringify({ query }) };
  const text = await (await fetch(url, ask)).text();
  console.log(`${name} ends with ${JSON.stringify(text.slice(text.indexOf("event: complete")))}`);
  const heard = [];
  const events = createEventSource({ url, ...ask, onMessage({ event }) { heard.push(event); if (event === "complete") events.close(); } });
  await new Promise((done) => setTimeout(done, 5000)); // it comes back after two seconds
  events.close();
  console.log(`  eventsource-client hears ${heard.slice(0, 4).join(", ")}${heard.length > 4 ? ", and so on" : ""}`);
  const told = [];
  await new Promise((done) => createClient({ url, retryAttempts: 0 }).subscribe({ query }, { next: () => told.push("next"), error: (e) => done(told.push(String(e))), complete: () => done(told.push("complete")) }));
  console.log(`  graphql-sse's client hears ${told.join(", ")}`);
}
gqlgen.kill();
process.exit();
JS
timeout 60 node look.mjs | tee saw
cat >want <<'TEXT'
gqlgen ends with "event: complete\n\n"
  eventsource-client hears next, next, next, next, and so on
  graphql-sse's client hears next, next, complete
graphql-sse ends with "event: complete\ndata:\n\n"
  eventsource-client hears next, next, complete
  graphql-sse's client hears next, next, complete
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
