// The worker's side of the protocol, fed with what a daemon would say. No sockets, no clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode } from "@msgpack/msgpack";
import { RefusedError, Session, TakenOverError } from "../src/session.js";

const say = (type, fields) => Buffer.from(encode({ type, ...fields }));
const welcome = (attempt, session = 7) =>
  say("welcome", { session, endpoint: `ipc:///w-${session}.sock`, attempt, worker_class: "normal", repeat_after: 1 });
const sent = (session, now) => {
  const message = session.toSend(now);
  return message && decode(message);
};
const frame = (seq, age = 0.001) => ({ stream: "cam", epoch: 1n, seq: BigInt(seq), capturedMono: BigInt(seq) * 100_000_000n, age });

function joined(options) {
  const session = new Session("w", ["cam"], options);
  assert.equal(sent(session, 0).type, "join");
  session.hear(welcome(1), 0);
  return session;
}

function asking(options) {
  const session = joined(options);
  session.ask(1);
  assert.equal(sent(session, 1).number, 1);
  return session;
}

test("a demand is repeated with its number, and the next one reports the frame", () => {
  const session = asking();
  assert.equal(sent(session, 1.5), null);
  assert.equal(sent(session, 2).number, 1);
  assert.equal(session.arrived(frame(3), 2.1).seq, 3n);
  assert.equal(session.nextAt, Infinity);
  session.ask(2.6);
  const { number, settled } = sent(session, 2.6);
  assert.deepEqual([number, settled], [2, ["cam", 1, 3, "consumed", 1_000_000, 500_000_000]]);
});

test("a frame that was sent and does not come leads to a new session, at first after 2 s, then after 4", () => {
  const session = asking();
  const wait = say("wait", { number: 1, sent: true });
  session.hear(wait, 2);
  session.hear(wait, 3.9);
  assert.equal(session.state, "asking");
  session.hear(wait, 4);
  assert.equal(session.endpoint, "");
  assert.equal(sent(session, 4).attempt, 2);
  session.hear(welcome(2, 8), 4);
  assert.equal(sent(session, 4).session, 8);
  session.hear(wait, 5);
  session.hear(wait, 8.9);
  assert.equal(session.state, "asking");
  session.hear(wait, 9);
  assert.equal(session.state, "joining");
});

test("messages of another session, attempt or number are ignored", () => {
  const session = asking();
  session.hear(say("rejoin", { session: 6, reason: "" }), 1);
  session.hear(say("takenover", { session: 6, by: "" }), 1);
  session.hear(welcome(1, 9), 1);
  session.hear(say("wait", { number: 2, sent: true }), 1);
  assert.deepEqual([session.state, session.endpoint, session.error], ["asking", "ipc:///w-7.sock", null]);
});

test("rejoin and goodbye lead to a new session, refused and takenover to an error", () => {
  for (const message of [say("rejoin", { session: 7, reason: "" }), say("goodbye", { reason: "SIGTERM" })]) {
    const session = asking();
    session.hear(message, 1);
    assert.deepEqual([sent(session, 2).type, session.endpoint], ["join", ""]);
  }
  const taken = asking();
  taken.hear(say("takenover", { session: 7, by: "x" }), 1);
  assert.ok(taken.error instanceof TakenOverError);
  const refused = new Session("w", ["cam"]);
  refused.toSend(0);
  refused.hear(say("refused", { reason: "unknown_worker", message: "no", attempt: 1 }), 0);
  assert.ok(refused.error instanceof RefusedError);
});

test("a frame that is older than the pace explains is checked once, and handed out if it is the newest", () => {
  const session = asking();
  for (const seq of [1, 2]) {
    session.arrived(frame(seq), 1 + seq / 10);
    session.ask(1 + seq / 10);
    session.toSend(1 + seq / 10);
  }
  assert.equal(session.arrived(frame(3, 5), 6), null);
  assert.deepEqual(sent(session, 6), { type: "recheck", session: 7, number: 3 });
  assert.equal(sent(session, 7), null);
  assert.equal(session.hear(say("newest", { number: 3 }), 7).seq, 3n);
});

test("a frame that arrives while one is checked takes its place", () => {
  const session = asking();
  for (const seq of [1, 2]) {
    session.arrived(frame(seq), 1);
    session.ask(1);
    session.toSend(1);
  }
  session.arrived(frame(3, 5), 6);
  session.toSend(6);
  assert.equal(session.arrived(frame(50), 6).seq, 50n);
});

test("an expired frame is reported, and the next one asked for", () => {
  const session = asking({ maxAge: 0.5 });
  assert.equal(session.arrived(frame(1, 0.6), 2), null);
  const { number, settled } = sent(session, 2);
  assert.deepEqual([number, settled[3]], [2, "expired"]);
});

test("leave reports the last frame", () => {
  const session = asking();
  session.arrived(frame(4), 2);
  const { type, settled } = decode(session.leave(3));
  assert.deepEqual([type, settled.slice(2, 4), settled[5]], ["leave", [4, "consumed"], 1_000_000_000]);
});
