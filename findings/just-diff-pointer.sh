#!/usr/bin/env bash
# Guess: jsonPatchPathConverter of just-diff makes a JSON Patch of its differences, as its documentation says: JSON Pointers, in which a member's / is ~1 and its ~ is ~0 (RFC 6901, section 3).
# Instead: it joins the names with slashes as they are. A member "a/b" is written as the member "b" of "a": where there is one, every library that follows the RFC changes that one without an error,
#   and just-diff-apply, made for it, does the same. A name that has a ~ is not found, or another name is.
# Version: just-diff 6.0.2, just-diff-apply 5.5.0, rfc6902 5.4.0, fast-json-patch 3.1.1, Node 20.20.
# Why it matters: members that are named after paths, media types or dates with slashes are common in what services say. Whoever makes patches by it, for a page that applies them to what MODE=patch
#   has sent, changes what nobody meant. The sidecar's own patches are escaped.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null
npm install --silent --no-audit --no-fund just-diff@6.0.2 just-diff-apply@5.5.0 rfc6902@5.4.0 fast-json-patch@3.1.1 >/dev/null 2>&1
cat >look.cjs <<'JS'
const { diff, jsonPatchPathConverter } = require("just-diff");
const apply = require("just-diff-apply"), rfc6902 = require("rfc6902"), fast = require("fast-json-patch");

const said = (does) => { try { return JSON.stringify(does()); } catch (err) { return err.message.split("\n")[0]; } };
for (const [was, is] of [
  [{ "text/html": 5, text: { html: 7 } }, { "text/html": 6, text: { html: 7 } }],
  [{ "~1": 5, "/": 7 }, { "~1": 6, "/": 7 }],
]) {
  console.log(`${JSON.stringify(was)} becomes ${JSON.stringify(is)}`);
  const theirs = fast.compare(was, is), patch = diff(was, is, jsonPatchPathConverter);
  console.log(`  fast-json-patch: ${JSON.stringify(theirs)}`);
  console.log(`  just-diff: ${JSON.stringify(patch)}`);
  for (const [name, does] of Object.entries({
    "just-diff-apply": (doc) => { apply.diffApply(doc, patch, apply.jsonPatchPathConverter); return doc; },
    rfc6902: (doc) => { const [failed] = rfc6902.applyPatch(doc, patch); if (failed) throw failed; return doc; },
    "fast-json-patch": (doc) => fast.applyPatch(doc, patch).newDocument,
  })) console.log(`  that of just-diff, applied by ${name}: ${said(() => does(structuredClone(was)))}`);
}
JS
node look.cjs | tee seen
diff seen - <<'WANT'
{"text/html":5,"text":{"html":7}} becomes {"text/html":6,"text":{"html":7}}
  fast-json-patch: [{"op":"replace","path":"/text~1html","value":6}]
  just-diff: [{"op":"replace","path":"/text/html","value":6}]
  that of just-diff, applied by just-diff-apply: {"text/html":5,"text":{"html":6}}
  that of just-diff, applied by rfc6902: {"text/html":5,"text":{"html":6}}
  that of just-diff, applied by fast-json-patch: {"text/html":5,"text":{"html":6}}
{"~1":5,"/":7} becomes {"~1":6,"/":7}
  fast-json-patch: [{"op":"replace","path":"/~01","value":6}]
  just-diff: [{"op":"replace","path":"/~1","value":6}]
  that of just-diff, applied by just-diff-apply: {"~1":6,"/":7}
  that of just-diff, applied by rfc6902: {"~1":5,"/":6}
  that of just-diff, applied by fast-json-patch: {"~1":5,"/":6}
WANT
# 2026-12-01: as above.
