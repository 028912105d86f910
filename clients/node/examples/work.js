// Read the freshest frames: node examples/work.js [worker] [stream] [control endpoint]. Ctrl-C ends it.
// One line of JSON for each frame.

import { Worker } from "../src/index.js";

const [name = "node-worker", stream = "*", control] = process.argv.slice(2);
const worker = new Worker(name, [stream], { control });
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => worker.close());

try {
  for await (const frame of worker) {
    const { stream, encoding, dtype, shape, metadata, age, payload } = frame;
    const [seq, bytes, first] = [Number(frame.seq), payload.length, payload[0]];
    const line = { stream, seq, encoding, dtype, shape, metadata, age, bytes, first };
    console.log(JSON.stringify(line, (_, value) => (typeof value === "bigint" ? `${value}` : value)));
  }
} catch (error) {
  console.log(JSON.stringify({ error: error.constructor.name, text: error.message }));
  await worker.close();
  process.exitCode = 1;
}
