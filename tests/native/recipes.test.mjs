// The recipes of docs/native-api.md, as they stand there: each framework verifies events by their raw body, and answers with an action.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Client, KEY, TENANT, run, startGateway } from "./support/gateway.mjs";
import { blockBehind } from "./support/pages.mjs";

const PYTHON = process.env.PYTHON ?? "python3";
const DJANGO = `
import sys
from django.conf import settings
settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="of this test")
import views
from django.core.management import execute_from_command_line
from django.urls import path
urlpatterns = [path("events", views.events)]
execute_from_command_line(["", "runserver", "--noreload", sys.argv[1]])
`;

// The file that a recipe is, and how it is started.
const RECIPES = {
  Express: ["express.mjs", port => ["node", ["express.mjs"], undefined, port]],
  Flask: ["flask_recipe.py", port => [PYTHON, ["-m", "flask", "--app", "flask_recipe", "run", "--port", port], /Running on/]],
  FastAPI: ["fastapi_recipe.py", port => [PYTHON, ["-m", "uvicorn", "fastapi_recipe:app", "--port", port], /Uvicorn running on/]],
  Django: ["views.py", port => [PYTHON, ["site.py", `127.0.0.1:${port}`], /Starting development server/]],
  PHP: ["events.php", port => ["php", ["-S", `127.0.0.1:${port}`, "events.php"], /Development Server/]],
};

const scratch = mkdtempSync(`${tmpdir()}/recipes-`);
const servers = [];
let gateway;

/** A port that is free now. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const port = String(server.address().port);
  server.close();
  await once(server, "close");
  return port;
}

/** Whether something answers at a port. */
const answers = port => fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false);

async function start(name) {
  const [file, command] = RECIPES[name];
  const port = await freePort();
  writeFileSync(`${scratch}/${file}`, blockBehind("native-api.md", `**${name}**`).replace("app.listen(3000,", `app.listen(${port},`));
  const [program, args, ready] = command(port);
  if (ready) return { name, port, ...(await run(program, args, { KEY, PYTHONPATH: scratch }, ready, scratch)) };
  const server = { name, port, ...(await run("sh", ["-c", `echo started; exec ${program} ${args.join(" ")}`], { KEY }, /started/, scratch)) };
  while (!await answers(port)) assert.equal(server.output.length, 1, server.output.join("\n"));
  return server;
}

before(async () => {
  symlinkSync(fileURLToPath(new URL("node_modules", import.meta.url)), `${scratch}/node_modules`);
  writeFileSync(`${scratch}/site.py`, DJANGO);
  gateway = await startGateway();
  for (const name of Object.keys(RECIPES)) servers.push(await start(name));
});

after(async () => {
  await gateway?.stop();
  await Promise.all(servers.map(server => server.stop()));
  rmSync(scratch, { recursive: true });
});

test("every recipe verifies events of any size, and is heard", async () => {
  for (const { name, port } of servers) {
    const answer = await fetch(`${gateway.url}/v1/tunnels`, {
      method: "POST",
      headers: { authorization: `Bearer ${TENANT}:${KEY}` },
      body: JSON.stringify({ webhookUrl: `http://127.0.0.1:${port}/events` }),
    });
    const client = await Client.dial((await answer.json()).connectUrl);
    await client.until(text => text === "got wafergate.tunnel.connected").catch(error => assert.fail(`${name}: ${error}`));
    client.send(`中 "😀" ${"x".repeat(120_000)}`);
    await client.until(text => text === "got wafergate.tunnel.message").catch(error => assert.fail(`${name}: ${error}`));
    await client.close();
  }
});

test("every recipe answers 400 to a wrong signature", async () => {
  for (const { name, port } of servers) {
    const headers = { "webhook-id": "m", "webhook-timestamp": String(Math.floor(Date.now() / 1000)), "webhook-signature": "v1,AAAA" };
    const answer = await fetch(`http://127.0.0.1:${port}/events`, { method: "POST", headers, body: "{}" });
    assert.equal(answer.status, 400, name);
  }
});
