// schemathesis against the running gateway: what the OpenAPI description says is what happens. Once with any names and ids, and once
// with those of a tunnel that is open.
//
//   node run.mjs SCHEMATHESIS    the path of its `st`

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Client, KEY, TENANT, startGateway } from "../support/gateway.mjs";

const st = process.argv[2];
const folder = mkdtempSync(join(tmpdir(), "wafergate-schemathesis-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
// Nothing listens there: this is not about events.
const gateway = await startGateway("http://127.0.0.1:9/events");
const authorization = `Bearer ${TENANT}:${KEY}`;

const opened = await fetch(`${gateway.url}/v1/tunnels`, {
  method: "POST",
  headers: { authorization },
  body: JSON.stringify({ user: "ann", groups: ["room"], metadata: { seat: 7 } }),
});
const { tunnelId, connectUrl } = await opened.json();
const client = await Client.dial(connectUrl);

/** Runs it with these lines of configuration; its exit code. */
async function check(lines) {
  const config = join(folder, "schemathesis.toml");
  writeFileSync(config, lines);
  const child = spawn(st, [
    "--config-file", config, "run", `${gateway.url}/v1/openapi.json`, "--header", `Authorization: ${authorization}`,
    "--phases", "coverage,fuzzing", "--max-examples", "40", "--seed", "1", "--no-color",
    // A handshake is not a call, a stream does not end, and a capture takes no 23.0 for minutes.
    "--exclude-path-regex", "^/v1/(connector|tail)$",
  ], {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const [code] = await once(child, "close");
  return code;
}

// 422 is for what a description cannot say: whose host a webhookUrl names, or that an Idempotency-Key came with another body before.
const expected = `[checks.positive_data_acceptance]\nexpected-statuses = ["2xx", 401, 404, 409, 422, 429, 503]\n`;
const names = `"path.id" = "${tunnelId}"\n"path.group" = "room"\n"path.user" = "ann"\n`;
const codes = [await check(expected), await check(`${expected}[parameters]\n${names}`)];
client.socket.terminate();
await gateway.stop();
process.exit(codes.every(code => code === 0) ? 0 : 1);
