// Types of /_sidestream/websocket.mjs, for TypeScript 5: the browser's own. Put this file into your project, where its tsconfig.json includes it. The classic
// script, websocket.js, needs none: it replaces what TypeScript knows already.

/** The class, for URLs under SSE_TUNNEL; others go to the browser's. */
declare module "*/_sidestream/websocket.mjs" {
  const Tunnelled: typeof globalThis.WebSocket;
  type Tunnelled = globalThis.WebSocket;
  export { Tunnelled as WebSocket };
}

/** The same, with the browser's first. */
declare module "*/_sidestream/websocket.mjs?mode=fallback" {
  const Tunnelled: typeof globalThis.WebSocket;
  type Tunnelled = globalThis.WebSocket;
  export { Tunnelled as WebSocket };
}
