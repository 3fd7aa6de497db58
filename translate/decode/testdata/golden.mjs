// Writes golden.txt: what other implementations pack. Each line has DECODE, the packed bytes in hex, and the JSON that shall come of them, which
// is JavaScript's own of the same value. In a folder with @msgpack/msgpack 3.1.3 and cbor-x 1.6.9: node golden.mjs > golden.txt
import { deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { encode } from "@msgpack/msgpack";
import { Encoder } from "cbor-x";

const cbor = new Encoder({ useRecords: false, variableMapSize: true, mapsAsObjects: true, tagUint8Array: false });
const json = (v) =>
  typeof v === "bigint" ? String(v)
  : v instanceof Uint8Array ? JSON.stringify(Buffer.from(v).toString("base64"))
  : Array.isArray(v) ? `[${v.map(json)}]`
  : v && typeof v === "object" && !(v instanceof Date) ? `{${Object.entries(v).map(([k, x]) => `${JSON.stringify(k)}:${json(x)}`)}}`
  : JSON.stringify(v);
const line = (steps, bytes, text) => console.log(steps, Buffer.from(bytes).toString("hex"), text);

const values = [
  null, true, false, 0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 9007199254740991,
  -1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, -9007199254740991,
  0.1, -0.5, 1.1, 64231.37, 1e21, 123456789012345680000, 1e-6, 1e-7, 1.5e-9, 5e-324, 1.7976931348623157e308, 3.14159265358979,
  "", "a", "btcusdt", "Zürich 東京 🚀", 'quote " and \\ and\nline\tand \u0001', "x".repeat(31), "x".repeat(32), "y".repeat(255), "z".repeat(256),
  new Uint8Array([]), new Uint8Array([0, 255, 16, 32]), new Uint8Array(300).fill(7),
  [], [1, [2, [3, []]]], Array.from({ length: 16 }, (_, i) => i), Array.from({ length: 300 }, (_, i) => i % 7),
  {}, { z: 1, a: 2, m: { 10: "ten", 9: "nine" } }, Object.fromEntries(Array.from({ length: 20 }, (_, i) => ["k" + i, i])),
  { ch: "market.btcusdt.ticker", ts: 1489474082831, tick: { open: 51732, close: 52735.63, bids: [[52732.88, 0.036], [52732.87, 1]], raw: new Uint8Array([1, 2, 3]), note: null } },
];
for (const v of values) {
  line("msgpack", encode(v), json(v));
  line("cbor", cbor.encode(v), json(v));
}
for (const n of [2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 64n - 1n, -(2n ** 53n) - 1n, -(2n ** 63n)]) {
  line("msgpack", encode({ n }, { useBigInt64: true }), json({ n }));
  line("cbor", cbor.encode({ n }), json({ n }));
}
for (const n of [2n ** 64n, 2n ** 200n + 1n, -(2n ** 64n) - 1n, -(2n ** 130n)]) line("cbor", cbor.encode([n]), json([n]));
for (const f of [0.1, 1.1, 3.5, 1e-3]) line("msgpack", encode(f, { forceFloat32: true }), json(Math.fround(f)));
for (const at of ["1970-01-01T00:00:00Z", "2024-02-29T12:34:56Z", "2024-02-29T12:34:56.789Z", "2600-01-01T00:00:00Z", "1969-12-31T23:59:59.5Z"]) {
  line("msgpack", encode([new Date(at)]), json([at]));
}
line("cbor", cbor.encode(new Date("2024-02-29T12:34:56Z")), "1709210096");
line("cbor", cbor.encode(new Map([[1, "one"], [-5, "minus five"], [true, 1], [null, 2], [1.5, 3], ["s", 4]])),
  '{"1":"one","-5":"minus five","true":1,"null":2,"1.5":3,"s":4}');
line("cbor", cbor.encode([undefined, NaN, Infinity]), "[null,null,null]");
line("msgpack", encode([NaN, Infinity, -Infinity]), "[null,null,null]");
const feed = { ch: "spot/ticker:BTC_USDT", data: [{ last: "64231.37", id: 2n ** 60n + 1n }] };
line("gzip", gzipSync(json(feed)), json(feed));
line("zlib", deflateSync(json(feed)), json(feed));
line("deflate", deflateRawSync(json(feed)), json(feed));
line("gzip", Buffer.concat([gzipSync('{"a":'), gzipSync("1}")]), '{"a":1}');
line("zlib,msgpack", deflateSync(encode(feed, { useBigInt64: true })), json(feed));
line("gzip,cbor", gzipSync(cbor.encode(feed)), json(feed));
line("deflate,gzip", deflateRawSync(gzipSync("twice")), "twice");
