#!/usr/bin/env bash
# Guess: mobx-state-tree's applyPatch, which is for JSON patches of RFC 6902, applies all of the six operations, or throws at one that it does not know, as immer and mutative do.
#   A "test" that fails throws.
# Instead: it does what "add", "remove" and "replace" say. "move", "copy" and "test" throw where the place is a model's property, and change nothing, without an error, where it is in an
#   array or a map: an element that was moved stays where it was, and the patches after it go to other elements than they are meant for. Its types know the first three alone, but what
#   was parsed from JSON has no type.
# Version: npm mobx-state-tree 9.0.0, mobx 7.1.3; immer 11.2.13 and mutative 2.0.0 for comparison; Node 20.
# Why it matters: with MODE=patch and KEY a list that is sorted again is a few moves. A page with this library shows the old order, without a word, and then changes the wrong rows.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund mobx-state-tree@9.0.0 mobx@7.1.3 immer@11.2.13 mutative@2.0.0 >/dev/null 2>&1
cat >look.mjs <<'JS'
import { applyPatches, enablePatches } from "immer";
import { applyPatch, getSnapshot, types } from "mobx-state-tree";
import { apply } from "mutative";

enablePatches();
const Row = types.model({ id: types.string, price: types.number });
const Board = types.model({ rows: types.array(Row) });
const board = { rows: [{ id: "a", price: 1 }, { id: "b", price: 2 }] };
const libraries = {
  "mobx-state-tree": (patch) => { const doc = Board.create(board); applyPatch(doc, patch); return getSnapshot(doc); },
  immer: (patch) => applyPatches(board, patch.map((one) => ({ ...one, path: one.path.split("/").slice(1) }))),
  mutative: (patch) => apply(board, patch),
};
const patches = [
  [{ op: "replace", path: "/rows/0/price", value: 3 }],
  [{ op: "move", from: "/rows/0", path: "/rows/1" }, { op: "replace", path: "/rows/0/price", value: 3 }],
  [{ op: "copy", from: "/rows/0", path: "/rows/-" }],
  [{ op: "test", path: "/rows/0", value: 5 }],
  [{ op: "test", path: "/rows/0/price", value: 5 }],
];
for (const patch of patches) for (const [name, by] of Object.entries(libraries)) {
  let said;
  try {
    said = by(patch).rows.map(({ id, price }) => id + price).join(" ");
  } catch (error) {
    said = "an error";
  }
  console.log(`a1 b2, ${patch.map(({ op, path }) => op + " " + path).join(", ")}: ${name} ${said}`);
}
JS
node look.mjs | tee saw
cat >want <<'TEXT'
a1 b2, replace /rows/0/price: mobx-state-tree a3 b2
a1 b2, replace /rows/0/price: immer a3 b2
a1 b2, replace /rows/0/price: mutative a3 b2
a1 b2, move /rows/1, replace /rows/0/price: mobx-state-tree a3 b2
a1 b2, move /rows/1, replace /rows/0/price: immer an error
a1 b2, move /rows/1, replace /rows/0/price: mutative an error
a1 b2, copy /rows/-: mobx-state-tree a1 b2
a1 b2, copy /rows/-: immer an error
a1 b2, copy /rows/-: mutative an error
a1 b2, test /rows/0: mobx-state-tree a1 b2
a1 b2, test /rows/0: immer an error
a1 b2, test /rows/0: mutative an error
a1 b2, test /rows/0/price: mobx-state-tree an error
a1 b2, test /rows/0/price: immer an error
a1 b2, test /rows/0/price: mutative an error
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
