// GraphiQL, as its documentation shows it with subscriptions.
import { createRoot } from "react-dom/client";
import { GraphiQL } from "graphiql";
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import "graphiql/style.css";

const fetcher = createGraphiQLFetcher({ url: "/graphql", subscriptionUrl: "ws://" + location.host + "/graphql" });
createRoot(document.getElementById("graphiql")).render(<GraphiQL fetcher={fetcher} initialQuery="subscription { count(to: 100) }" defaultEditorToolsVisibility={false} />);
