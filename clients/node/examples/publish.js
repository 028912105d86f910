// Publish a test picture: node examples/publish.js [stream] [frames a second] [inbox endpoint]. Ctrl-C ends it.
// One line of JSON at the end: {"published": …, "unsent": …}.

import { Publisher } from "../src/index.js";

const [stream = "cam-1", fps = "10", inbox] = process.argv.slice(2);
const publisher = new Publisher(stream, { inbox });
const [height, width] = [48, 64];

const timer = setInterval(() => {
  const pixels = new Uint8Array(height * width * 3).fill(publisher.published % 256);
  publisher.publish(pixels, { encoding: "raw", dtype: "|u1", shape: [height, width, 3], metadata: { from: "node" } });
}, 1000 / Number(fps));

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    clearInterval(timer);
    await publisher.close();
    console.log(JSON.stringify({ published: publisher.published, unsent: publisher.unsent }));
  });
}
