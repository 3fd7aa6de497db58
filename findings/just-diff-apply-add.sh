#!/usr/bin/env bash
# Guess: just-diff-apply with its jsonPatchPathConverter, which its documentation offers for standard patches of jsonpatch.com, does with an "add" in a list what RFC 6902 says: it inserts
#   (section 4.1), as fast-json-patch does.
# Instead: it assigns. The element that was at that index is gone, the list is as long as before, and "-" becomes a member of the list that JSON does not show: nothing is appended. Nothing
#   fails. A later patch's indexes are those of the longer list, and meet other elements or none. What just-diff itself makes it applies well: that adds at a list's end alone.
#   (A member "a/b", which is a~1b in a path, gets a second one "a~1b" beside it, and "copy" and "test" do nothing, without an error, too.)
# Version: npm just-diff-apply 5.5.0, just-diff 6.0.2, fast-json-patch 3.1.1, rfc6902 5.4.0, Node 20.
# Why it matters: with MODE=patch a row that comes in at the top of a list is such an "add". A page with this library replaces its first row, shows one row less for each, and has no error to
#   fetch the snapshot again for.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund just-diff-apply@5.5.0 just-diff@6.0.2 fast-json-patch@3.1.1 rfc6902@5.4.0 >/dev/null 2>&1
cat >look.mjs <<'JS'
import fast from "fast-json-patch";
import { diff, jsonPatchPathConverter as toText } from "just-diff";
import { diffApply, jsonPatchPathConverter as fromText } from "just-diff-apply";
import { createPatch } from "rfc6902";

function look(title, doc, patch) {
  const [one, other] = [structuredClone(doc), structuredClone(doc)];
  const made = structuredClone(patch);
  try { fast.applyPatch(other, structuredClone(patch), true); } catch (e) { other.error = e.name; }
  let said = "no error";
  try { diffApply(one, made, fromText); } catch (e) { said = String(e); }
  console.log(`${title}: ${JSON.stringify(patch)}`);
  console.log(`  fast-json-patch ${JSON.stringify(other)}, just-diff-apply ${JSON.stringify(one)}, ${said}`);
}
const before = { rows: ["b", "c"] };
look("a row at the top, by rfc6902", before, createPatch(before, { rows: ["a", "b", "c"] }));
look("the same, by just-diff", before, diff(before, { rows: ["a", "b", "c"] }, toText));
look("a row at the end", before, [{ op: "add", path: "/rows/-", value: "d" }]);
look("a name with a slash", { "a/b": 1 }, [{ op: "add", path: "/a~1b", value: 2 }]);
look("a copy", { a: 1 }, [{ op: "copy", from: "/a", path: "/b" }]);
JS
node look.mjs | tee saw
cat >want <<'TEXT'
a row at the top, by rfc6902: [{"op":"add","path":"/rows/0","value":"a"}]
  fast-json-patch {"rows":["a","b","c"]}, just-diff-apply {"rows":["a","c"]}, no error
the same, by just-diff: [{"op":"replace","path":"/rows/0","value":"a"},{"op":"replace","path":"/rows/1","value":"b"},{"op":"add","path":"/rows/2","value":"c"}]
  fast-json-patch {"rows":["a","b","c"]}, just-diff-apply {"rows":["a","b","c"]}, no error
a row at the end: [{"op":"add","path":"/rows/-","value":"d"}]
  fast-json-patch {"rows":["b","c","d"]}, just-diff-apply {"rows":["b","c"]}, no error
a name with a slash: [{"op":"add","path":"/a~1b","value":2}]
  fast-json-patch {"a/b":2}, just-diff-apply {"a/b":1,"a~1b":2}, no error
a copy: [{"op":"copy","from":"/a","path":"/b"}]
  fast-json-patch {"a":1,"b":1}, just-diff-apply {"a":1}, no error
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
