// Types of /_sidestream/events.js and /_sidestream/events.mjs, for TypeScript 5. Put this file into your project, where its tsconfig.json includes it.

/** What a `stream.gap` event has as its data, parsed: events are missing before it. */
interface SidestreamGap {
  /** `evicted`: away for longer than the replay buffer reaches; `restart`: the last id is of an earlier run; `upstream`: the service's connection was lost; `history`: its store lost something. */
  reason: "evicted" | "restart" | "upstream" | "history";
  /** How many; `null` where nobody knows. */
  missed: number | null;
  /** Of a merged route: the name of the part that it is about. */
  route?: string;
  /** Of several routes over one connection: the path that it is about. */
  from?: string;
}

interface SidestreamEventSourceInit extends EventSourceInit {
  /** Called for each gap; the stream goes on. */
  gap?: (gap: SidestreamGap) => void;
  /** `false`: a connection of its own. `true` unless given: all of a page, and of its tabs, share one, whatever they listen to. */
  shared?: boolean;
  /** `"keep"`: the connection stays, also while the page is hidden. Unless given, a page that is hidden for five minutes lets it go, and goes on from its last id when shown. */
  hidden?: "keep";
  /** `"ticket"`: a ticket for each connection stands for the page's cookies, or for `authorization`. */
  auth?: "ticket";
  /** What a ticket is asked for with, such as `Bearer …`. With it tabs share nothing. */
  authorization?: string | (() => string | Promise<string>);
}

/** The events that the sidecar makes itself; their data is JSON. */
interface SidestreamEventMap extends EventSourceEventMap {
  "stream.gap": MessageEvent<string>;
  "stream.refused": MessageEvent<string>;
  "stream.end": MessageEvent<string>;
  "stream.busy": MessageEvent<string>;
  "stream.open": MessageEvent<string>;
  "stream.heartbeat": MessageEvent<string>;
}

/** An `EventSource` that shares one connection with all others of its page and tabs, that reconnects whatever ended its connection, and that polls where events are held back on their way. */
interface SidestreamEventSource extends EventSource {
  addEventListener<K extends keyof SidestreamEventMap>(type: K, listener: (this: EventSource, event: SidestreamEventMap[K]) => unknown, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: (this: EventSource, event: MessageEvent<string>) => unknown, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

interface SidestreamEventSourceConstructor {
  new (url: string | URL, options?: SidestreamEventSourceInit): SidestreamEventSource;
  readonly prototype: SidestreamEventSource;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSED: 2;
}

/** Of the classic script. */
declare var SidestreamEventSource: SidestreamEventSourceConstructor;

declare module "*/_sidestream/events.mjs" {
  export const SidestreamEventSource: SidestreamEventSourceConstructor;
  export type SidestreamEventSource = globalThis.SidestreamEventSource;
  export default SidestreamEventSource;
}
