// CURVE keys for a daemon that asks for them, which it does on tcp only; docs/security.md says who needs which.

import { readFileSync, statSync } from "node:fs";

/**
 * The socket options that show our keys; none on ipc, or where no files are named. key: a file NAME.secret that nobody else may
 * read; serverKey: the daemon's NAME.public; left out: $SUPPLIERD_KEY and $SUPPLIERD_SERVER_KEY.
 */
export function curve(endpoint, key = process.env.SUPPLIERD_KEY, serverKey = process.env.SUPPLIERD_SERVER_KEY) {
  if (endpoint.startsWith("ipc://") || (!key && !serverKey)) return {};
  if (!key || !serverKey) throw new RangeError("only one of key and serverKey is named: give both, or neither");
  if (statSync(key).mode & 0o077) throw new RangeError(`others can read the secret in ${key}: chmod 600 it`);
  return {
    curveServerKey: read(serverKey, "public"),
    curvePublicKey: read(key, "public"),
    curveSecretKey: read(key, "secret"),
  };
}

/** One line of a key file: name = "40 characters". */
function read(path, name) {
  const found = new RegExp(`^${name} = "([^"]{40})"$`, "m").exec(readFileSync(path, "utf8"));
  if (!found) throw new RangeError(`${path} has no line ${name} = "…" with a key of 40 characters`);
  return found[1];
}
