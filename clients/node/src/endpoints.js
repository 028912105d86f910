// Where a daemon and its clients meet when nobody says otherwise; wire.md, section 2.

import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { basename, dirname, isAbsolute, join } from "node:path";

const SYSTEM = "/run/supplierd";

/** The runtime directory: `explicit`, else $SUPPLIERD_RUNTIME_DIR, else the system's, else one of the user's own. */
export function runtimeDir(explicit, environ = process.env) {
  const chosen = explicit || environ.SUPPLIERD_RUNTIME_DIR;
  if (chosen) {
    if (!isAbsolute(chosen)) throw new RangeError(`the runtime directory ${chosen} is not an absolute path: begin it with /`);
    return chosen;
  }
  if (isSocket(join(SYSTEM, "control.sock")) || writable(existsSync(SYSTEM) ? SYSTEM : dirname(SYSTEM))) return SYSTEM;
  const base = environ.XDG_RUNTIME_DIR;
  if (base && isAbsolute(base) && writable(base)) return join(base, "supplierd");
  return `/dev/shm/supplierd-${process.getuid()}`;
}

export const inboxEndpoint = (directory) => `ipc://${join(directory, "inbox.sock")}`;
export const controlEndpoint = (directory) => `ipc://${join(directory, "control.sock")}`;

/**
 * Where a worker finds the endpoint that its daemon named: on the control endpoint's host for tcp, and beside its socket where
 * this process (in a container) sees the runtime directory at another path.
 */
export function reachable(endpoint, control) {
  if (!endpoint.startsWith("ipc://")) return endpoint.replace("tcp://*", control.replace(/:[0-9]+$/, ""));
  const beside = join(dirname(control.slice("ipc://".length)), basename(endpoint));
  return !existsSync(endpoint.slice("ipc://".length)) && existsSync(beside) ? `ipc://${beside}` : endpoint;
}

/** 16 bytes that name this boot of this machine; random ones where it has none. */
export const bootId = (() => {
  try {
    return Buffer.from(readFileSync("/proc/sys/kernel/random/boot_id", "ascii").trim().replaceAll("-", ""), "hex");
  } catch {
    return randomBytes(16);
  }
})();

function isSocket(path) {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false;
}

function writable(path) {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
