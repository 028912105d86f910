// Publishes the frames of one stream, and never waits for anybody; wire.md, section 6. Payloads travel in the message.

import { Push } from "zeromq";
import { bootId, inboxEndpoint, runtimeDir } from "./endpoints.js";
import { curve } from "./keys.js";
import { PUSH } from "./sockets.js";
import { checkName, encodeFrame } from "./wire.js";

const CLOSE_WAIT_MS = 50; // after the last frame: closing a socket destroys what it has not yet written

export class Publisher {
  #socket;
  #publishedAt = -Infinity;

  /** inbox: the daemon's endpoint; left out: the one in the runtime directory. key, serverKey: files, see keys.js. */
  constructor(stream, { inbox, runtimeDirectory, key, serverKey } = {}) {
    this.stream = checkName("stream", stream);
    this.epoch = process.hrtime.bigint(); // CLOCK_MONOTONIC
    this.published = 0; // frames so far, the last one's seq
    this.unsent = 0; // how many of them found no daemon
    const endpoint = inbox ?? inboxEndpoint(runtimeDir(runtimeDirectory));
    this.#socket = new Push({ ...PUSH, ...curve(endpoint, key, serverKey) });
    this.#socket.connect(endpoint);
  }

  /**
   * Publish a frame; gives its seq. Without a daemon the frame is dropped, and counted; one that the daemon has not fetched
   * is replaced.
   *
   * payload: a Uint8Array, copied before this returns. encoding: "raw" needs dtype (like "|u1") and shape. capturedAt: Unix
   * seconds; left out: now.
   */
  async publish(payload, { encoding = "bytes", dtype, shape, capturedAt, metadata } = {}) {
    if (!payload.length) throw new RangeError("an empty payload cannot be published: a frame has at least one byte");
    const wall = BigInt(Date.now()) * 1_000_000n;
    const capturedWall = capturedAt === undefined ? wall : BigInt(Math.round(capturedAt * 1e6)) * 1000n;
    const message = encodeFrame(
      {
        stream: this.stream, epoch: this.epoch, boot: bootId, seq: this.published + 1, capturedWall,
        capturedMono: process.hrtime.bigint() - (wall - capturedWall), encoding, unsent: this.unsent, dtype, shape,
        metadata, inline: "unsupported",
      },
      payload,
    );
    const seq = (this.published += 1);
    this.#publishedAt = performance.now();
    try {
      await this.#socket.send(message);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      this.unsent += 1;
    }
    return seq;
  }

  /** Stop publishing; the last frame is given a moment to get through. */
  async close() {
    const wait = this.#publishedAt + CLOSE_WAIT_MS - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    this.#socket.close();
  }
}
