// Where a worker finds the endpoint that its daemon named.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { reachable } from "../src/endpoints.js";

test("tcp: the port on the control endpoint's host", () => {
  assert.equal(reachable("tcp://*:49152", "tcp://edge-7:5602"), "tcp://edge-7:49152");
  assert.equal(reachable("tcp://10.0.0.2:49152", "tcp://edge-7:5602"), "tcp://10.0.0.2:49152");
});

test("ipc: as it was named, or beside the control socket where only that is seen here", () => {
  const here = mkdtempSync(join(tmpdir(), "supplierd-"));
  try {
    const control = `ipc://${join(here, "control.sock")}`;
    const named = "ipc:///nowhere/w-1.sock";
    assert.equal(reachable(named, control), named);
    writeFileSync(join(here, "w-1.sock"), "");
    assert.equal(reachable(named, control), `ipc://${join(here, "w-1.sock")}`);
    assert.equal(reachable(`ipc://${join(here, "w-1.sock")}`, "ipc:///nowhere/control.sock"), `ipc://${join(here, "w-1.sock")}`);
  } finally {
    rmSync(here, { recursive: true });
  }
});
