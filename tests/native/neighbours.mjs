// Measures what one tenant, or a stranger, can do to another tenant: each pot that they share is attacked beside pushes of the other.
//
//   node neighbours.mjs [--smoke] [--seconds N] [POT ...]    prints a table; a POT is a part of its name
//
// Needs redis-server for the pot on the bus, and root for the one of dead names (it gives the gateway a name server that never answers).

import { execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

import { ATTACKS } from "./neighbours/attacks.mjs";
import { Caller } from "./neighbours/calls.mjs";
import { Client, run } from "./support/gateway.mjs";

const BINARY = process.env.WAFERGATE_BIN ?? fileURLToPath(new URL("../../target/debug/wafergate", import.meta.url));
const QUIET = { id: "quiet", key: "the key of the quiet tenant" };
const LOUD = { id: "loud", key: "the key of the loud tenant" };
/** Where the name server is that never answers. */
const DEAD_NAME_SERVER = "127.0.0.53";
/** How long a message may take before it counts as lost. */
const LOST_MS = 15_000;

/** In a thread of its own: the attack, until it is told to stop; then how often it had which answer. */
async function attack({ pot, url, smoke }) {
  const answers = {};
  let isOver = false;
  parentPort.once("message", () => { isOver = true; });
  await ATTACKS.find(attack => attack.pot === pot).run({
    smoke,
    loud: LOUD,
    isOver: () => isOver,
    count: answer => { answers[answer] = (answers[answer] ?? 0) + 1; },
    caller: (tenant, options) => new Caller(url, tenant, options),
  });
  parentPort.postMessage(answers);
}

/** Nodes as the attack needs them; the processes of the gateways are known by their pids. */
async function start(attack, webhookUrl) {
  const redis = attack.nodes ? await startRedis() : undefined;
  const env = {
    WAFERGATE__SERVER__LISTEN: "127.0.0.1:0",
    WAFERGATE__SERVER__ADMIN_LISTEN: "127.0.0.1:0",
    WAFERGATE__WEBHOOK__ALLOW_NETWORKS: "127.0.0.0/8",
    WAFERGATE__DRAIN__WINDOW_SECS: "0",
    WAFERGATE__DRAIN__FLUSH_SECS: "0",
    // The probe sends as fast as it can.
    WAFERGATE__LIMITS__MESSAGES_PER_SEC_PER_CONNECTION: "0",
    ...Object.fromEntries([QUIET, LOUD].flatMap(({ id, key }, number) => [
      ["ID", id], ["KEYS", key], ["RECEIVE_HOSTS", "*"], ["WEBHOOK_URL", webhookUrl],
    ].map(([name, value]) => [`WAFERGATE__TENANTS__${number}__${name}`, value]))),
    ...redis?.env,
  };
  const script = [`ulimit -n ${attack.descriptors ?? 16_384}`];
  const command = attack.deadNames && process.getuid() === 0 ? ["unshare", "-m", "sh"] : ["sh"];
  if (command.length > 1) {
    const file = join(mkdtempSync(join(tmpdir(), "neighbours-")), "resolv.conf");
    writeFileSync(file, `nameserver ${DEAD_NAME_SERVER}\n`);
    script.push(`mount --bind ${file} /etc/resolv.conf`);
  }
  script.push("echo pid $$", `exec ${BINARY} serve`);
  const node = async () => {
    const process = await run(command[0], [...command.slice(1), "-c", script.join(" && ")], env, /(?<=^listen )http:\S+/);
    const said = prefix => process.output.find(line => line.startsWith(prefix))?.split(" ")[1];
    return { ...process, pid: said("pid"), admin: said("admin") };
  };
  const nodes = [await node(), ...attack.nodes > 1 ? [await node()] : []];
  for (const { admin } of nodes) {
    const asker = new Caller(admin);
    while ((await asker.send("GET", "/readyz", { host: "localhost" })).status !== 200) await setTimeout(100);
  }
  return { nodes, stop: async () => { await Promise.all(nodes.map(node => node.stop())); await redis?.stop(); } };
}

async function startRedis() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  const server = spawn("redis-server", ["--port", port, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"], { stdio: "ignore" });
  for (let tries = 0; tries < 100; tries += 1) {
    try { execFileSync("redis-cli", ["-p", port, "ping"], { stdio: "ignore" }); break; } catch { await setTimeout(50); }
  }
  const env = {
    WAFERGATE__ENGINE__KIND: "redis",
    WAFERGATE__ENGINE__REDIS_URL: `redis://127.0.0.1:${port}`,
    WAFERGATE__SERVER__TICKET_KEY: randomUUID(),
  };
  return { env, stop: () => { server.kill(); return once(server, "exit"); } };
}

/** Pushes of the quiet tenant to one client, or messages of that client to its business server; how long each took, and what failed. */
async function probe({ tunnel, client, caller, arrived }, { events, fresh, idempotent, signed }, isOver) {
  const times = [], failures = {};
  while (!isOver()) {
    const word = randomUUID(), begin = performance.now();
    const came = new Promise(resolve => arrived.set(word, resolve));
    const inTime = promise => Promise.race([promise, setTimeout(LOST_MS, { status: "lost" })]);
    let answer = { status: 200 };
    if (events) {
      client.send(word);
    } else {
      if (fresh) caller.agent.destroy();
      const headers = idempotent ? { "idempotency-key": word } : {};
      answer = await inTime(caller.call("POST", "/v1/push", { to: { tunnels: [tunnel] }, content: word }, { headers, signed }));
    }
    if (answer.status === 200) answer = await inTime(came.then(() => answer));
    if (answer.status === 200) times.push(performance.now() - begin);
    else failures[answer.status] = (failures[answer.status] ?? 0) + 1;
    arrived.delete(word);
    await setTimeout(2);
  }
  return { times: times.sort((a, b) => a - b), failures };
}

const at = (times, part) => times.length === 0 ? NaN : times[Math.min(times.length - 1, Math.floor(times.length * part))];
const counts = record => Object.entries(record).map(([name, count]) => `${count} × ${name}`).join(", ") || "–";

function residentMiB(nodes) {
  const kib = ({ pid }) => Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
  return nodes.map(kib).reduce((sum, one) => sum + one) / 1024;
}

async function measure(attack, { smoke, seconds }) {
  const arrived = new Map();
  const business = createServer((request, response) => {
    const pieces = [];
    request.on("data", piece => pieces.push(piece)).on("end", () => {
      response.end();
      arrived.get(JSON.parse(Buffer.concat(pieces)).data)?.();
    });
  }).listen(0, "127.0.0.1");
  await once(business, "listening");
  const { nodes, stop } = await start(attack, `http://127.0.0.1:${business.address().port}/`);
  try {
    // On the last node; calls come to the first one.
    const there = new Caller(nodes.at(-1).url, QUIET);
    const { body } = await there.call("POST", "/v1/tunnels", {});
    const client = await Client.dial(JSON.parse(body).connectUrl);
    client.socket.on("message", data => { client.received.length = 0; arrived.get(data.toString())?.(); });
    const quiet = { tunnel: JSON.parse(body).tunnelId, client, caller: new Caller(nodes[0].url, QUIET), arrived };
    const during = async time => {
      const end = performance.now() + time;
      return probe(quiet, attack.probe, () => performance.now() > end);
    };
    await during(smoke ? 50 : 1_000);
    const calm = await during(1_000 * seconds);
    const memory = [residentMiB(nodes)];
    const hostile = new Worker(new URL(import.meta.url), { workerData: { pot: attack.pot, url: nodes[0].url, smoke } });
    const ended = Promise.race([once(hostile, "message"), once(hostile, "error").then(([error]) => { throw error; })]);
    ended.catch(() => {});
    let peak = 0;
    const watch = setInterval(() => { peak = Math.max(peak, residentMiB(nodes)); }, 50);
    await setTimeout(smoke ? 50 : 1_000);
    const beside = await during(2_000 * seconds);
    const lines = nodes.reduce((sum, node) => sum + node.output.length, 0);
    const ready = await new Caller(nodes[0].admin).send("GET", "/readyz", { host: "localhost" });
    hostile.postMessage("stop");
    const [answers] = await ended;
    clearInterval(watch);
    await setTimeout(smoke ? 100 : 12_000);
    memory.push(peak, residentMiB(nodes));
    return { calm, beside, memory, lines, answers, ready: ready.status };
  } finally {
    await stop();
    business.close();
  }
}

function row(attack, { calm, beside, memory, lines, answers, ready }) {
  const ms = ({ times }) => `${at(times, 0.5).toFixed(2)} / ${at(times, 0.99).toFixed(2)}`;
  const ratio = (at(beside.times, 0.99) / at(calm.times, 0.99)).toFixed(2);
  const took = memory.map(mib => mib.toFixed(0)).join(" / ");
  return `| ${attack.pot} | ${attack.by}: ${counts(answers)} | ${attack.share} | ${attack.probe.events ? "message" : "push"} | ${ms(calm)} | ${ms(beside)} | ${ratio} ` +
    `| ${counts(beside.failures)} | ${ready} | ${took} | ${lines} |`;
}

async function main(words) {
  const smoke = words.includes("--smoke");
  const number = words.indexOf("--seconds");
  const seconds = smoke ? 0.2 : number < 0 ? 5 : Number(words[number + 1]);
  const wanted = words.filter((word, index) => !word.startsWith("--") && words[index - 1] !== "--seconds");
  const attacks = ATTACKS.filter(({ pot }) => wanted.length === 0 || wanted.some(word => pot.includes(word)));
  if (attacks.length === 0) throw new Error(`no pot has ${wanted} in its name: ${ATTACKS.map(({ pot }) => pot).join(", ")}`);
  process.setMaxListeners(0);
  // It is bound, and never read: whoever asks it waits.
  const deaf = createSocket("udp4").on("error", error => console.error(`dead names may be answered: ${error.message}`)).bind(53, DEAD_NAME_SERVER);
  console.log("| pot | taken by | share | other tenant's | calm p50 / p99 ms | beside p50 / p99 ms | × p99 | its failures | readyz | MiB before / most / after | log lines |");
  console.log("|---|---|---|---|---|---|---|---|---|---|---|");
  let isSound = true;
  for (const attack of attacks) {
    const result = await measure(attack, { smoke, seconds });
    console.log(row(attack, result));
    isSound &&= result.beside.times.length > 0 && Object.keys(result.beside.failures).length === 0;
  }
  deaf.close();
  process.exit(isSound ? 0 : 1);
}

if (isMainThread) await main(process.argv.slice(2));
else await attack(workerData);
