// A worker's side of the protocol, without I/O; wire.md, section 8. Times are seconds, of CLOCK_MONOTONIC.
//
// One demand is open at a time and at most one frame is under way. worker.js moves the bytes: it asks `toSend` what is due, and
// when to ask again (`nextAt`), and gives what arrived to `hear` and `arrived`.

import { randomBytes } from "node:crypto";
import { bootId } from "./endpoints.js";
import { VERSION, decodeControl, encodeControl } from "./wire.js";

const REPEAT_AFTER = 1.0;
const RETRY_UNSENT = 0.05;
const LOST_AFTER = 2.0;
const LOST_AFTER_MAX = 64.0;
const PACE_MARGIN = 0.02; // a frame may exceed its stream's interval by so much: scheduling on a busy machine

export class RefusedError extends Error {}
export class TakenOverError extends Error {}

export class Session {
  state = "joining"; // joining, idle, asking, checking, ended
  error = null; // why it ended, where it was not closed
  endpoint = ""; // where the PULL socket belongs; "" until there is one
  nextAt = -Infinity;
  #join;
  #maxAge;
  #session = null; // from WELCOME
  #repeatAfter = REPEAT_AFTER;
  #attempt = 1;
  #number = 0;
  #wanted = false;
  #settled = null; // the report on the last frame
  #handedAt = null;
  #held = null; // the suspicious frame
  #heldAt = 0;
  #sentSince = null; // when the frame that is under way was first spoken of
  #lostAfter = LOST_AFTER;
  #paces = new Map();

  constructor(worker, streams, { targetFps = null, maxAge = Infinity } = {}) {
    this.#maxAge = maxAge;
    this.#join = { worker, instance: randomBytes(16), streams, targetFps };
  }

  /** The user wants a frame. */
  ask(now) {
    this.#wanted = true;
    this.#endProcessing(now);
    if (this.state === "idle") this.#demand(now);
  }

  /** The control message that is due, or null. */
  toSend(now) {
    if (now < this.nextAt) return null;
    this.nextAt = now + REPEAT_AFTER;
    switch (this.state) {
      case "joining":
        return this.#joinMessage();
      case "asking":
        this.nextAt = now + this.#repeatAfter;
        return encodeControl("demand", {
          session: this.#session, number: this.#number, settled: this.#settled, leases: 0,
        });
      case "checking":
        if (this.#sentSince !== null) {
          this.#giveUp(); // neither a frame nor NEWEST came
          this.nextAt = now + REPEAT_AFTER;
          return this.#joinMessage();
        }
        this.#sentSince = now;
        this.nextAt = now + this.#lostAfter;
        return encodeControl("recheck", { session: this.#session, number: this.#number });
      default:
        this.nextAt = Infinity;
        return null;
    }
  }

  /** The message that `toSend` gave found no connection. */
  unsent(now) {
    this.#sentSince = null;
    this.nextAt = now + RETRY_UNSENT;
  }

  /** A control message arrived. Gives the frame that may be handed out after all, if there is one. Raises WireError. */
  hear(data, now) {
    const message = decodeControl(data);
    const current = this.#session !== null && message.session === this.#session && this.state !== "joining";
    const answersJoin = this.state === "joining" && message.attempt === BigInt(this.#attempt);
    const answersDemand = message.number === BigInt(this.#number);
    switch (message.type) {
      case "welcome":
        if (answersJoin) this.#welcomed(message, now);
        break;
      case "refused":
        if (answersJoin) this.#end(new RefusedError(`${message.reason}: ${message.message}`));
        break;
      case "error":
        if (this.state === "joining") this.#end(new RefusedError(`${message.reason}: ${message.message}`));
        break;
      case "takenover":
        if (current) this.#end(new TakenOverError(`another worker has taken over (${message.by})`));
        break;
      case "rejoin":
        if (current) this.#restart();
        break;
      case "goodbye":
        this.#restart();
        this.nextAt = now + RETRY_UNSENT;
        break;
      case "wait":
        if (this.state === "asking" && answersDemand) this.#waited(message.sent, now);
        break;
      case "newest":
        if (this.state === "checking" && answersDemand) {
          this.#held.age += now - this.#heldAt;
          return this.#handOut(this.#held, now);
        }
        break;
    }
    return null;
  }

  /** A frame arrived on the current endpoint. Gives it back if it may be handed out now. */
  arrived(frame, now) {
    if (this.state !== "asking" && this.state !== "checking") return null;
    const checked = this.state === "checking";
    this.#lostAfter = LOST_AFTER;
    this.#sentSince = null;
    if (!checked && frame.age <= this.#maxAge && this.#suspects(frame)) {
      this.state = "checking";
      [this.#held, this.#heldAt] = [frame, now];
      this.nextAt = now;
      return null;
    }
    return this.#handOut(frame, now);
  }

  /** A frame cannot be used: report why, and ask for the next. */
  discard(frame, outcome, now) {
    this.#held = null;
    this.#settle(frame, outcome);
    this.#handedAt = null;
    this.#demand(now);
  }

  /** The worker closes, perhaps with a frame that nobody has read: the last message, or null where there is no session. */
  leave(now, unread = this.#held) {
    const known = this.#session !== null && this.state !== "joining" && this.state !== "ended";
    this.#endProcessing(now);
    if (unread) this.#settle(unread, "closed");
    this.state = "ended";
    return known ? encodeControl("leave", { session: this.#session, settled: this.#settled }) : null;
  }

  #joinMessage() {
    return encodeControl("join", {
      worker: this.#join.worker, instance: this.#join.instance, attempt: this.#attempt, versions: [VERSION],
      client: "node 0.1.0", streams: this.#join.streams, delivery: "on_demand", target_fps: this.#join.targetFps,
      boot: bootId, pid: process.pid, arena: "unsupported", settled: this.#settled,
    });
  }

  #welcomed(message, now) {
    this.#session = message.session;
    this.#repeatAfter = Math.max(Number(message.repeat_after), RETRY_UNSENT);
    this.endpoint = message.endpoint;
    this.state = "idle";
    this.nextAt = Infinity;
    if (this.#wanted) this.#demand(now);
  }

  #demand(now) {
    this.#number += 1;
    this.#sentSince = null;
    this.state = "asking";
    this.nextAt = now;
  }

  #waited(sent, now) {
    if (!sent) this.#sentSince = null;
    else if (this.#sentSince === null) this.#sentSince = now;
    else if (now - this.#sentSince >= this.#lostAfter) this.#giveUp();
  }

  #giveUp() {
    this.#lostAfter = Math.min(2 * this.#lostAfter, LOST_AFTER_MAX);
    this.#restart();
  }

  #restart() {
    if (this.state === "ended") return;
    this.#attempt += 1;
    this.#number = 0;
    this.#sentSince = this.#held = null;
    this.endpoint = "";
    this.state = "joining";
    this.nextAt = -Infinity;
  }

  #end(error) {
    this.error = error;
    this.endpoint = "";
    this.state = "ended";
    this.nextAt = Infinity;
  }

  #handOut(frame, now) {
    if (frame.age > this.#maxAge) {
      this.discard(frame, "expired", now);
      return null;
    }
    this.#learn(frame);
    this.#settle(frame, "consumed");
    this.#handedAt = now;
    this.#held = null;
    this.#wanted = false;
    this.state = "idle";
    this.nextAt = Infinity;
    return frame;
  }

  #settle(frame, outcome) {
    const age = BigInt(Math.round(Math.max(frame.age, 0) * 1e9));
    this.#settled = [frame.stream, frame.epoch, frame.seq, outcome, age, 0];
  }

  #endProcessing(now) {
    if (this.#handedAt === null) return;
    this.#settled[5] = BigInt(Math.round((now - this.#handedAt) * 1e9));
    this.#handedAt = null;
  }

  /** Whether a frame is older than its stream's pace, and what its frames use to be on arrival, explain. */
  #suspects(frame) {
    const pace = this.#paces.get(frame.stream);
    return pace?.interval > 0 && frame.age > pace.interval + PACE_MARGIN && frame.age > pace.age + 4 * pace.deviation;
  }

  #learn(frame) {
    const { epoch, seq, capturedMono: captured, age } = frame;
    const pace = this.#paces.get(frame.stream) ?? { interval: 0, age, deviation: Math.abs(age) / 2 };
    if (pace.epoch === epoch && seq > pace.seq) {
      pace.interval = Number(captured - pace.captured) / Number(seq - pace.seq) / 1e9;
    }
    pace.deviation += (Math.abs(age - pace.age) - pace.deviation) / 4;
    pace.age += (age - pace.age) / 8;
    this.#paces.set(frame.stream, Object.assign(pace, { epoch, seq, captured }));
  }
}
