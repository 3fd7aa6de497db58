// Applies patches by three libraries: each line of the input is a document, a patch and what becomes of it; the output is what went otherwise.
import { createInterface } from 'node:readline'
import { isDeepStrictEqual } from 'node:util'
import fast from 'fast-json-patch'
import json8 from 'json8-patch'
import * as rfc6902 from 'rfc6902'

const libraries = {
  'fast-json-patch': (doc, patch) => fast.applyPatch(doc, patch, true).newDocument,
  'json8-patch': (doc, patch) => json8.apply(doc, patch).doc,
  rfc6902: (doc, patch) => {
    const wrong = rfc6902.applyPatch(doc, patch).filter(Boolean)
    if (wrong.length > 0) throw wrong[0]
    return doc
  },
}

let n = 0
for await (const line of createInterface({ input: process.stdin })) {
  n++
  for (const [name, apply] of Object.entries(libraries)) {
    const [doc, patch, want] = JSON.parse(line)
    let got
    try {
      got = apply(doc, patch)
    } catch (e) {
      got = String(e)
    }
    if (!isDeepStrictEqual(got, want)) console.log(`${name}: ${line}: ${JSON.stringify(got)}`)
  }
}
console.log(`${n} patches`)
