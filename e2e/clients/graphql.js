// Subscribes to GraphQL over SSE, with the client that the page's hash names, unmodified, and shows what it sees: window.saw holds lines. The hash is
// kind, then the document, percent-encoded.
import { ApolloClient, ApolloLink, gql, InMemoryCache, Observable } from "@apollo/client";
import { cacheExchange, Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { print } from "graphql";
import { createClient } from "graphql-sse";

const [kind, query] = location.hash.slice(1).split(",").map(decodeURIComponent);
window.saw = [];
const see = (what, value) => window.saw.push(what + " " + JSON.stringify(value ?? null));
const url = location.origin + "/graphql";

const sse = () => createClient({
  url,
  retry: () => new Promise((resolve) => setTimeout(resolve, 300)),
  on: { connected: (again) => see(again ? "reconnected" : "connected") },
});

// As the documentation of graphql-sse has it.
class SSELink extends ApolloLink {
  constructor(client) { super(); this.client = client; }
  request(operation) {
    return new Observable((sink) => this.client.subscribe({ ...operation, query: print(operation.query) }, {
      next: sink.next.bind(sink), complete: sink.complete.bind(sink), error: sink.error.bind(sink),
    }));
  }
}

const shown = (result) => ({ data: result.data, ...(result.errors ? { errors: result.errors.map((e) => e.message) } : {}) });
const graphQLErrors = (error) => error && { errors: (error.graphQLErrors?.length ? error.graphQLErrors : error.errors ?? [error]).map((e) => e.message) };

switch (kind) {
  case "graphql-sse":
    sse().subscribe({ query }, { next: (result) => see("next", shown(result)), complete: () => see("complete"), error: (e) => see("error", String(e)) });
    break;
  case "urql": // by its own reader of event streams
  case "urql-sse": {
    const exchange = kind === "urql" ? fetchExchange : subscriptionExchange({
      forwardSubscription(request) {
        const client = sse();
        return { subscribe: (sink) => ({ unsubscribe: client.subscribe({ query: request.query, variables: request.variables }, sink) }) };
      },
    });
    new Client({ url, preferGetMethod: false, fetchSubscriptions: true, exchanges: [cacheExchange, exchange] })
      .subscription(query, {})
      .subscribe((result) => see("next", { data: result.data, ...graphQLErrors(result.error) }));
    break;
  }
  case "apollo":
    new ApolloClient({ cache: new InMemoryCache(), link: new SSELink(sse()) }).subscribe({ query: gql(query), errorPolicy: "all" }).subscribe({
      next: (result) => see("next", { data: result.data, ...graphQLErrors(result.error) }), complete: () => see("complete"), error: (e) => see("error", String(e)),
    });
    break;
}
