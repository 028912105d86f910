// Reads the freshest frame of one or more streams. The protocol is in session.js; here are sockets and timers.

import { Dealer, Pull } from "zeromq";
import { bootId, controlEndpoint, reachable, runtimeDir } from "./endpoints.js";
import { curve } from "./keys.js";
import { RefusedError, Session, TakenOverError } from "./session.js";
import { DEALER, PULL } from "./sockets.js";
import { WireError, checkName, decodeFrame } from "./wire.js";

export { RefusedError, TakenOverError };

const LEAVE_WAIT_MS = 100; // how long closing waits for the last message to be written

const monotonic = () => Number(process.hrtime.bigint()) / 1e9;

export class Worker {
  #session;
  #endpoint;
  #keys;
  #control;
  #frames = null;
  #framesEndpoint = "";
  #timer = null;
  #waiting = null; // {resolve, reject} of the read that waits
  #unread = null; // a frame that came after its read had timed out

  /**
   * streams: names, or ["*"]. control: the daemon's endpoint; left out: the one in the runtime directory. targetFps: the rate
   * that it wants to be promised. maxAge: seconds; older frames are refused. key, serverKey: files, see keys.js.
   */
  constructor(name, streams = ["*"], { control, runtimeDirectory, targetFps, maxAge, key, serverKey } = {}) {
    checkName("worker", name);
    if (!Array.isArray(streams) || !streams.length) throw new RangeError('streams is a list, like ["cam-1"] or ["*"]');
    for (const stream of streams) if (stream !== "*") checkName("stream", stream);
    this.#endpoint = control ?? controlEndpoint(runtimeDir(runtimeDirectory));
    this.#keys = curve(this.#endpoint, key, serverKey);
    this.#session = new Session(name, streams, { targetFps, maxAge });
    this.#control = new Dealer({ ...DEALER, ...this.#keys });
    this.#control.connect(this.#endpoint);
    this.#listen(this.#control, (data) => this.#hand(this.#session.hear(data, monotonic())));
    this.#advance();
  }

  /**
   * The freshest frame, as soon as there is one that this worker has not had: {stream, epoch, seq, payload, encoding, dtype,
   * shape, metadata, capturedAt (Unix seconds), age (seconds)}. Null when `timeout` (seconds) is over, or the worker is closed.
   * Raises RefusedError and TakenOverError. One read at a time.
   */
  async read(timeout = Infinity) {
    if (this.#waiting) throw new Error("another read waits: one at a time");
    if (this.#control.closed) return null;
    let timer;
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting = { resolve, reject };
        if (timeout < Infinity) timer = setTimeout(() => resolve(null), timeout * 1e3);
        this.#session.ask(monotonic());
        if (this.#unread) this.#arrived(this.#unread);
        this.#advance();
      });
    } finally {
      clearTimeout(timer);
      this.#waiting = null;
    }
  }

  async *[Symbol.asyncIterator]() {
    for (let frame; (frame = await this.read()) !== null; ) yield frame;
  }

  /** Take leave. A waiting read ends. */
  async close() {
    if (this.#control.closed) return;
    const message = this.#session.leave(monotonic(), this.#unread ? withAge(this.#unread) : undefined);
    if (message) await this.#control.send(message).catch(() => {});
    clearTimeout(this.#timer);
    this.#frames?.close();
    this.#control.linger = LEAVE_WAIT_MS;
    this.#control.close();
    this.#waiting?.resolve(null);
  }

  /** Hear what arrives on a socket until that is closed. */
  async #listen(socket, heard) {
    for await (const [data, ...more] of socket) {
      if (more.length) continue;
      try {
        heard(data);
      } catch (error) {
        if (!(error instanceof WireError)) throw error; // a newer daemon may say what this client does not know
      }
      this.#advance();
    }
  }

  /** Send what is due, be where the session wants to be, and come back in time. */
  async #advance() {
    if (this.#control.closed) return;
    const { error, state } = this.#session;
    if (state === "ended") {
      this.#waiting?.[error ? "reject" : "resolve"](error ?? null);
      this.#follow();
      return;
    }
    const now = monotonic();
    const message = this.#session.toSend(now);
    this.#follow();
    if (message) await this.#control.send(message).catch(() => this.#session.unsent(now));
    clearTimeout(this.#timer);
    const wait = this.#session.nextAt - monotonic();
    if (wait < Infinity && !this.#control.closed) this.#timer = setTimeout(() => this.#advance(), Math.max(0, wait * 1e3));
  }

  /** Have the PULL socket where the session wants it; an old one is closed first. */
  #follow() {
    const { endpoint } = this.#session;
    if (endpoint === this.#framesEndpoint) return;
    this.#framesEndpoint = endpoint;
    this.#frames?.close();
    this.#frames = this.#unread = null; // the new session's JOIN gives up what the old one brought
    if (!endpoint) return;
    const socket = (this.#frames = new Pull({ ...PULL, ...this.#keys }));
    socket.connect(reachable(endpoint, this.#endpoint));
    this.#listen(socket, (data) => {
      if (socket === this.#frames) this.#arrived(decodeFrame(data));
    });
  }

  #arrived(header) {
    this.#unread = this.#waiting ? null : header; // the next read takes it, if it is still the newest then
    if (this.#unread) return;
    const frame = withAge(header);
    if (header.arena) this.#session.discard(frame, "unreadable", monotonic()); // cannot be: JOIN said so
    else this.#hand(this.#session.arrived(frame, monotonic()));
  }

  #hand(frame) {
    if (frame && this.#waiting) this.#waiting.resolve(frame);
    else if (frame) this.#session.discard(frame, "stale", monotonic());
  }
}

function withAge(header) {
  const capturedAt = Number(header.capturedWall) / 1e9;
  const sameClock = bootId.equals(header.boot);
  const age = sameClock ? Number(process.hrtime.bigint() - header.capturedMono) / 1e9 : Date.now() / 1e3 - capturedAt;
  return { ...header, capturedAt, age };
}
