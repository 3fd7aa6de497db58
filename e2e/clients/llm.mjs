// Reads a stream with the official client of a model's API, unmodified, and prints what it sees as JSON lines.
// usage: node llm.mjs openai|anthropic URL [KEY]
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const [kind, url, key = "key-one"] = process.argv.slice(2);
const see = (saw, data) => console.log(JSON.stringify({ Saw: saw, Data: String(data) }));
const messages = [{ role: "user", content: "héllo" }];

try {
  if (kind === "openai") {
    const client = new OpenAI({ apiKey: key, baseURL: url + "/v1", maxRetries: 0 });
    const { data, response } = await client.chat.completions.create({ model: "m", stream: true, messages }).withResponse();
    see("open", response.headers.get("content-location") + " " + response.headers.get("x-request-id"));
    for await (const chunk of data) see("message", chunk.choices[0].delta.content ?? chunk.choices[0].finish_reason);
  } else {
    const client = new Anthropic({ apiKey: key, baseURL: url, maxRetries: 0 });
    const stream = client.messages.stream({ model: "m", max_tokens: 9, messages });
    const { response } = await stream.withResponse();
    see("open", response.headers.get("content-location") + " " + response.headers.get("request-id"));
    stream.on("text", (text) => see("message", text));
    see("message", (await stream.finalMessage()).stop_reason);
  }
  see("end", "");
} catch (e) {
  see("error", e.constructor.name + " " + e.status + " " + e.message);
}
