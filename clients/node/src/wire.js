// Frame and control messages; wire.md, sections 3 to 7. No I/O.
//
// Integers that may need 64 bits are BigInt: session, epoch, seq, times and an arena's numbers. Whatever breaks a rule of
// the format raises WireError.

import { Decoder, Encoder } from "@msgpack/msgpack";

export const VERSION = 1;
const MAGIC = 0x53504c46; // "SPLF", read big-endian
const PREFIX_BYTES = 32;
const ALIGNMENT = 64;
const FLAG_ARENA = 1;
const MAX_HEADER_BYTES = 0xffff;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const ENCODING = /^[^\p{C}\p{Zl}\p{Zp}]{1,32}$/u;
const DTYPE = /^[<>|](?:b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32))$/;
const U64_MAX = (1n << 64n) - 1n;

export class WireError extends Error {}

const encoder = new Encoder({ useBigInt64: true });
const decoder = new Decoder({ useBigInt64: true, mapKeyConverter: stringKey });

/** Raises RangeError unless `name` may be the name of a stream or worker (`kind`). */
export function checkName(kind, name) {
  if (typeof name !== "string" || !NAME.test(name)) {
    throw new RangeError(`${kind} name ${name} is not allowed: 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first`);
  }
  return name;
}

/**
 * The bytes of a frame message.
 *
 * header: {stream, epoch, boot, seq, capturedWall, capturedMono, encoding, unsent, dtype, shape, metadata, arena, inline}, of
 * which the last six may be left out. payload: a Uint8Array; left out where `arena` names a slot.
 */
export function encodeFrame(header, payload = new Uint8Array(0)) {
  const { stream, epoch, boot, encoding, unsent, dtype, shape, metadata, arena, inline } = header;
  const map = { stream, epoch, boot, encoding };
  if (unsent) map.unsent = unsent;
  if (encoding === "raw") Object.assign(map, { dtype, shape });
  if (metadata && Object.keys(metadata).length) map.metadata = metadata;
  if (arena) map.arena = [arena.file, arena.slot, arena.generation, arena.offset, arena.size];
  if (inline) map.inline = inline;
  const packed = encoder.encode(shortest(map));
  if (packed.length > MAX_HEADER_BYTES) {
    throw new WireError(`the header has ${packed.length} bytes, at most ${MAX_HEADER_BYTES} fit: shorten the metadata`);
  }
  const message = Buffer.alloc(payloadOffset(packed.length) + payload.length);
  message.writeUInt32BE(MAGIC, 0);
  message.writeUInt8(VERSION, 4);
  message.writeUInt8(arena ? FLAG_ARENA : 0, 5);
  message.writeUInt16LE(packed.length, 6);
  message.writeBigUInt64LE(BigInt(header.seq), 8);
  message.writeBigInt64LE(BigInt(header.capturedWall), 16);
  message.writeBigInt64LE(BigInt(header.capturedMono), 24);
  message.set(packed, PREFIX_BYTES);
  message.set(payload, message.length - payload.length);
  return message;
}

/** The header of a frame message (a Buffer), and its payload as a view; payload is null where `arena` names a slot. */
export function decodeFrame(message) {
  check(message.length >= PREFIX_BYTES, "truncated");
  check(message.readUInt32BE(0) === MAGIC, "not a frame message");
  check(message.readUInt8(4) === VERSION, "another version");
  const flags = message.readUInt8(5);
  check((flags & ~FLAG_ARENA) === 0, "unknown flags");
  const end = PREFIX_BYTES + message.readUInt16LE(6);
  const offset = payloadOffset(message.readUInt16LE(6));
  check(message.length >= offset, "truncated");
  const map = unpack(message.subarray(PREFIX_BYTES, end));
  const { stream, boot, encoding, unsent = 0, metadata = {}, inline = "" } = map;
  const seq = message.readBigUInt64LE(8);
  check(typeof stream === "string" && NAME.test(stream), "stream");
  check(isCount(map.epoch) && isCount(unsent) && isBytes(boot, 16) && seq > 0n, "epoch, boot, unsent or seq");
  check(typeof encoding === "string" && ENCODING.test(encoding), "encoding");
  check(isMap(metadata), "metadata");
  check(typeof inline === "string", "inline");
  let [arena, payload, size] = [null, message.subarray(offset), BigInt(message.length - offset)];
  if (flags & FLAG_ARENA) {
    check(size === 0n, "a payload beside an arena's slot");
    [arena, payload] = [arenaReference(map.arena), null];
    size = arena.size;
  }
  check(size > 0n, "no content");
  const raw = encoding === "raw";
  if (raw) checkArray(map.dtype, map.shape, size);
  return {
    stream, epoch: BigInt(map.epoch), boot, seq, capturedWall: message.readBigInt64LE(16),
    capturedMono: message.readBigInt64LE(24), encoding, unsent: BigInt(unsent), dtype: raw ? map.dtype : "",
    shape: raw ? map.shape.map(Number) : [], metadata, arena, inline, payload, payloadOffset: offset, payloadSize: size,
  };
}

/** The bytes of a control message: `type`, and the fields in the order of wire.md. */
export function encodeControl(type, fields = {}) {
  return encoder.encode(shortest({ type, ...fields }));
}

const optional = (kind) => (value) => value === null || kind(value);
const string = (value) => typeof value === "string";
const boolean = (value) => typeof value === "boolean";
const number = (value) => Number.isFinite(value) || typeof value === "bigint";
const integer = (value) => Number.isInteger(value) || typeof value === "bigint";

/** What a daemon may say: for each key its check, and its default where it has one. */
const FROM_DAEMON = {
  welcome: {
    session: [integer], endpoint: [string], attempt: [integer], worker_class: [string], repeat_after: [number],
    target_fps: [optional(number), null], daemon: [string, ""], version: [integer, VERSION], bell: [string, ""],
  },
  refused: { reason: [string], message: [string], attempt: [integer, 0] },
  rejoin: { session: [integer], reason: [string] },
  wait: { number: [integer], sent: [boolean] },
  newest: { number: [integer] },
  takenover: { session: [integer], by: [string] },
  goodbye: { reason: [string] },
  snapshot: { snapshot: [isMap, {}] },
  error: { reason: [string], message: [string] },
};

/** A message of the daemon: its `type` and its fields, as they are named on the wire. */
export function decodeControl(data) {
  const map = unpack(data);
  check(typeof map.type === "string" && Object.hasOwn(FROM_DAEMON, map.type), "type");
  const message = { type: map.type };
  for (const [key, [kind, ...byDefault]] of Object.entries(FROM_DAEMON[map.type])) {
    const [value] = Object.hasOwn(map, key) ? [map[key]] : byDefault;
    check(value !== undefined && kind(value), key);
    message[key] = kind === integer ? BigInt(value) : value;
  }
  return message;
}

function payloadOffset(headerSize) {
  return Math.ceil((PREFIX_BYTES + headerSize) / ALIGNMENT) * ALIGNMENT;
}

function check(holds, what) {
  if (!holds) throw new WireError(`a message breaks a rule of the wire format: ${what}`);
}

function unpack(bytes) {
  let map;
  try {
    map = decoder.decode(bytes);
  } catch (error) {
    throw new WireError(`not one msgpack object: ${error.message}`);
  }
  check(isMap(map), "a map is expected");
  return map;
}

function stringKey(key) {
  if (typeof key !== "string") throw new TypeError("a map's keys are strings");
  return key;
}

function isMap(value) {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function isBytes(value, length) {
  return value instanceof Uint8Array && value.length === length;
}

function isCount(value) {
  return (typeof value === "bigint" && value >= 0n && value <= U64_MAX) || (Number.isInteger(value) && value >= 0);
}

function arenaReference(list) {
  check(Array.isArray(list) && list.length === 5 && string(list[0]) && list.slice(1).every(isCount), "arena");
  const [slot, generation, offset, size] = list.slice(1).map(BigInt);
  return { file: list[0], slot, generation, offset, size };
}

function checkArray(dtype, shape, size) {
  check(string(dtype) && DTYPE.test(dtype), "dtype");
  check(Array.isArray(shape) && shape.length >= 1 && shape.length <= 8 && shape.every(isCount), "shape");
  const bytes = shape.reduce((product, length) => product * BigInt(length), BigInt(dtype.slice(2)));
  check(bytes === size, "shape and dtype do not make the payload's size");
}

/** The library writes a BigInt in nine bytes, and a large Number as a float: give it each integer so that it is short. */
function shortest(value) {
  if (typeof value === "bigint") return value >= -(1n << 31n) && value < 1n << 32n ? Number(value) : value;
  if (Number.isSafeInteger(value)) return value >= -(2 ** 31) && value < 2 ** 32 ? value : BigInt(value);
  if (Array.isArray(value)) return value.map(shortest);
  if (isMap(value)) return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shortest(item)]));
  return value;
}
