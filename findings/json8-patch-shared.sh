#!/usr/bin/env bash
# Guess: "copy" makes a second value of the first (RFC 6902, section 4.5: "copies"), and what is done to the one afterwards leaves the other alone. A patch is the same after it was
#   applied as before: json8-patch's documentation says that it never changes patches.
# Instead: json8-patch puts the very same object in both places, so that the next operation on the one changes both. And the document holds the patch's own values: what later
#   patches do to the document they do to the earlier patch, too. Who follows a stream with two documents, or applies patches again that were kept, has elements twice. No error.
# Version: npm json8-patch 1.0.6; rfc6902 5.4.0 and immutable-json-patch 6.0.3 for comparison, Node 20.
# Why it matters: with MODE=patch each event is parsed once and goes to whoever listens, in a page with two widgets to two documents. fast-json-patch 3.1.1 has the second of the two,
#   and says so in its documentation; its "copy" makes a value of its own.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund json8-patch@1.0.6 rfc6902@5.4.0 immutable-json-patch@6.0.3 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { immutableJSONPatch } from "immutable-json-patch";
import json8 from "json8-patch";
import * as rfc6902 from "rfc6902";

const libraries = {
  "json8-patch": (doc, patch) => json8.apply(doc, patch).doc,
  rfc6902: (doc, patch) => (rfc6902.applyPatch(doc, patch), doc),
  "immutable-json-patch": (doc, patch) => immutableJSONPatch(doc, patch),
};
for (const [name, apply] of Object.entries(libraries)) {
  const copied = apply({ draft: { lines: ["a"] } }, [{ op: "copy", from: "/draft", path: "/sent" }, { op: "add", path: "/draft/lines/-", value: "b" }]);
  console.log(`${name}, copied: ${JSON.stringify(copied)}`);
  const first = [{ op: "add", path: "/rows", value: [1] }], second = [{ op: "add", path: "/rows/-", value: 2 }];
  let one = {}, other = {};
  for (const patch of [first, second]) [one, other] = [apply(one, patch), apply(other, patch)];
  console.log(`${name}, two documents: ${JSON.stringify(one)} ${JSON.stringify(other)}, the first patch is now ${JSON.stringify(first)}`);
}
JS
node look.mjs | tee saw
cat >want <<'TEXT'
json8-patch, copied: {"draft":{"lines":["a","b"]},"sent":{"lines":["a","b"]}}
json8-patch, two documents: {"rows":[1,2,2]} {"rows":[1,2,2]}, the first patch is now [{"op":"add","path":"/rows","value":[1,2,2]}]
rfc6902, copied: {"draft":{"lines":["a","b"]},"sent":{"lines":["a"]}}
rfc6902, two documents: {"rows":[1,2]} {"rows":[1,2]}, the first patch is now [{"op":"add","path":"/rows","value":[1]}]
immutable-json-patch, copied: {"draft":{"lines":["a","b"]},"sent":{"lines":["a"]}}
immutable-json-patch, two documents: {"rows":[1,2]} {"rows":[1,2]}, the first patch is now [{"op":"add","path":"/rows","value":[1]}]
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
