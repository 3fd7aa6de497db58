#!/usr/bin/env bash
# Guess: "-" names the place after a list's last element, and an object's member whose name is "-" like any other (RFC 6902, section 4.1: of an array;
#   RFC 6901, section 4, says that of arrays alone). All libraries that apply patches agree.
# Instead: immutable-json-patch takes "-" for the end of a list in objects too. Adding the member "-" makes one that is called "undefined", and removing it, or
#   a whole object under it, leaves it where it is. Nothing fails. fast-json-patch and rfc6902 do what the RFC says.
# Version: npm immutable-json-patch 6.0.3, fast-json-patch 3.1.1, rfc6902 5.4.0.
# Why it matters: with MODE=patch a page holds a document by the patches of a stream. With this library its copy goes away from the service's as soon as a
#   document has a member "-", and says nothing of it: the sidecar's documents have whatever names their service gives them.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund immutable-json-patch@6.0.3 fast-json-patch@3.1.1 rfc6902@5.4.0 >/dev/null 2>&1
cat >look.mjs <<'JS'
import fast from 'fast-json-patch'
import { immutableJSONPatch } from 'immutable-json-patch'
import * as rfc6902 from 'rfc6902'

const cases = [
  [{ a: 1 }, [{ op: 'add', path: '/-', value: 2 }]],
  [{ '-': 1, a: 2 }, [{ op: 'remove', path: '/-' }]],
  [{ o: { '-': { b: 1 } } }, [{ op: 'remove', path: '/o/-' }]],
  [{ l: [1] }, [{ op: 'add', path: '/l/-', value: 2 }]],
]
for (const [doc, patch] of cases) {
  const copy = () => JSON.parse(JSON.stringify(doc))
  const other = copy()
  rfc6902.applyPatch(other, patch)
  const said = [immutableJSONPatch(copy(), patch), fast.applyPatch(copy(), patch).newDocument, other]
  console.log(`${JSON.stringify(patch[0])} of ${JSON.stringify(doc)}: immutable-json-patch ${said.map((v) => JSON.stringify(v)).join(', others ')}`)
}
JS
node look.mjs | tee seen
cat >want <<'TEXT'
{"op":"add","path":"/-","value":2} of {"a":1}: immutable-json-patch {"a":1,"undefined":2}, others {"a":1,"-":2}, others {"a":1,"-":2}
{"op":"remove","path":"/-"} of {"-":1,"a":2}: immutable-json-patch {"-":1,"a":2}, others {"a":2}, others {"a":2}
{"op":"remove","path":"/o/-"} of {"o":{"-":{"b":1}}}: immutable-json-patch {"o":{"-":{"b":1}}}, others {"o":{}}, others {"o":{}}
{"op":"add","path":"/l/-","value":2} of {"l":[1]}: immutable-json-patch {"l":[1,2]}, others {"l":[1,2]}, others {"l":[1,2]}
TEXT
diff want seen || { echo "That has changed." >&2; exit 1; }
