// Package web serves the scripts that pages load from the sidecar. Each has one readable source, from which two files
// are made:
//
//	NAME.js      a classic script
//	NAME.mjs     the same as an ES module; a file that exports cannot be a classic script
//	NAME.src.js  the source itself
//	NAME.d.ts    its types, for TypeScript
//
// polls.mjs, upward.mjs and hub.mjs are loaded by the others, each when it is needed, and are modules only. So a script stays below 4 KiB, compressed.
//
// The page /_sidestream/doctor, with its style and script, is served beside them: see package doctor, and package probe, which it asks.
//
// A line "//! classic", "//! module" or "//! both" in the source says for whom the following lines are. The minified
// files stand beside the sources; a test holds that they are made from them, and "go test ./proxy/web -update" makes them.
//
// # Rules
//
//   - A script has the interface of the browser's own class, and its states, errors and order of events.
//   - It works under a Content-Security-Policy without 'unsafe-inline' or 'unsafe-eval', and under whatever path a proxy puts it.
//   - Nothing is lost silently: what cannot be bridged is an error that the page already knows, or a gap.
//
// README.md beside this file describes them for those who write pages.
package web
