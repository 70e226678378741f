// Measures what one tenant, or a stranger, can do to another tenant: each pot that they share is attacked beside pushes of the other.
//
//   node neighbours.mjs [--binary PATH] [--smoke] [--seconds N] [--pin GATEWAYS:TOOL | --pin none] [POT ...]
//
// prints a table; a POT is a part of its name. The same attack is made on another gateway of this machine first: what that costs the other
// tenant is the machine's doing, and only the rest is the gateway's. Gateways and this tool run on processors of their own (as `taskset`
// lists them; by default half each), and the attackers yield to the probe.
//
// Needs redis-server for the pots on the bus, openssl for those of TLS, and root for the one of dead names (it gives the gateway a name
// server that never answers).

import { execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import net from "node:net";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { ATTACKS } from "./neighbours/attacks.mjs";
import { Caller } from "./neighbours/calls.mjs";
import { Client, run } from "./support/gateway.mjs";

const HERE = fileURLToPath(import.meta.url);
const QUIET = { id: "quiet", key: "the key of the quiet tenant" };
const LOUD = { id: "loud", key: "the key of the loud tenant" };
/** Where the name server is that never answers. */
const DEAD_NAME_SERVER = "127.0.0.53";
/** How long a message may take before it counts as lost. */
const LOST_MS = 15_000;
/** How long the allocator may take to give memory back. */
const AFTER_MS = 12_000;

/** Says how it is called. */
function options(words) {
  const value = name => words.includes(name) ? words.splice(words.indexOf(name), 2)[1] : undefined;
  const flag = name => words.includes(name) && Boolean(words.splice(words.indexOf(name), 1));
  const smoke = flag("--smoke");
  const binary = value("--binary") ?? process.env.WAFERGATE_BIN ?? fileURLToPath(new URL("../../target/debug/wafergate", import.meta.url));
  const seconds = Number(value("--seconds") ?? (smoke ? 0.2 : 5));
  const half = Math.floor(availableParallelism() / 2);
  const pin = value("--pin") ?? (half === 0 ? "none" : `0-${half - 1}:${half}-${availableParallelism() - 1}`);
  const [gateways, tool] = pin === "none" ? [] : pin.split(":");
  return { smoke, binary, seconds, gateways, tool, wanted: words };
}

/** In a process of its own: the attack, until it is told to stop; then how often it had which answer. */
async function attack({ pot, urls, admin, smoke }) {
  const answers = {};
  let isOver = false;
  process.once("message", () => { isOver = true; });
  await ATTACKS.find(attack => attack.pot === pot).run({
    smoke, urls, admin,
    loud: LOUD,
    isOver: () => isOver,
    count: answer => { answers[answer] = (answers[answer] ?? 0) + 1; },
    caller: (tenant, options) => new Caller(urls[0], tenant, options),
  });
  process.send(answers, () => process.exit(0));
}

/** Starts an attack; `stop` ends it and tells how often it had which answer. */
function begin(attack, { nodes }, { smoke, tool }) {
  const what = { pot: attack.pot, urls: nodes.map(node => node.url), admin: nodes[0].admin, smoke };
  const command = [...tool === undefined ? [] : ["taskset", "-c", tool], "nice", "-n", "10", process.execPath, "--no-warnings", HERE, "--attack", JSON.stringify(what)];
  const child = spawn(command[0], command.slice(1), { stdio: ["ignore", "inherit", "inherit", "ipc"], detached: true });
  const killed = () => child.kill("SIGKILL");
  process.once("exit", killed);
  const ended = Promise.race([once(child, "message"), once(child, "exit").then(([code]) => { throw new Error(`the attack ended with ${code}`); })]);
  ended.catch(() => {});
  return { stop: async () => {
    if (child.connected) child.send("stop");
    const [answers] = await ended;
    process.off("exit", killed);
    return answers;
  } };
}

/** A self-signed certificate and its key. */
function certificate() {
  const folder = mkdtempSync(join(tmpdir(), "neighbours-"));
  const [key, cert] = ["key.pem", "cert.pem"].map(name => join(folder, name));
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
    "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { WAFERGATE__SERVER__TLS_CERT: cert, WAFERGATE__SERVER__TLS_KEY: key };
}

/** A session service for the loud tenant, whose WeChat is at this address. */
function sessions(wechatUrl) {
  const app = { APP_ID: "wx4f4bc4dec97d474b", SECRET: "secret", TENANT: LOUD.id };
  return {
    WAFERGATE__SESSION__ENABLED: "true",
    WAFERGATE__SESSION__STORE: "memory",
    WAFERGATE__SESSION__WECHAT_URL: new URL(wechatUrl).origin,
    ...Object.fromEntries(Object.entries(app).map(([name, value]) => [`WAFERGATE__SESSION__APPS__0__${name}`, value])),
  };
}

/** Nodes as the attack needs them; the processes of the gateways are known by their pids. */
async function start(attack, webhookUrl, { binary, gateways }) {
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
    ...attack.tls ? certificate() : {},
    ...attack.sessions ? sessions(webhookUrl) : {},
    ...redis?.env,
  };
  const script = [`ulimit -n ${attack.descriptors ?? 16_384}`];
  const command = attack.deadNames && process.getuid() === 0 ? ["unshare", "-m", "sh"] : ["sh"];
  if (command.length > 1) {
    const file = join(mkdtempSync(join(tmpdir(), "neighbours-")), "resolv.conf");
    writeFileSync(file, `nameserver ${DEAD_NAME_SERVER}\n`);
    script.push(`mount --bind ${file} /etc/resolv.conf`);
  }
  script.push("echo pid $$", `exec ${gateways === undefined ? "" : `taskset -c ${gateways}`} ${binary} serve`);
  const node = async () => {
    const process = await run(command[0], [...command.slice(1), "-c", script.join(" && ")], env, /(?<=^listen )https?:\S+/);
    const said = prefix => process.output.find(line => line.startsWith(prefix))?.split(" ")[1];
    while (said("admin") === undefined) await setTimeout(10);
    return { ...process, pid: said("pid"), admin: said("admin") };
  };
  const nodes = [await node(), ...attack.nodes > 1 ? [await node()] : []];
  for (const { admin } of nodes) {
    const asker = new Caller(admin);
    while ((await asker.send("GET", "/readyz", { host: "localhost" })).status !== 200) await setTimeout(100);
  }
  const end = async () => { await Promise.all(nodes.map(node => node.stop())); await redis?.stop(); };
  let ended;
  // A second stop waits for the first: what has exited exits only once.
  return { nodes, redis, stop: () => ended ??= end() };
}

async function startRedis() {
  const probe = net.createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  const server = spawn("redis-server", ["--port", port, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"], { stdio: "ignore" });
  process.once("exit", () => server.kill("SIGKILL"));
  for (let tries = 0; tries < 100; tries += 1) {
    try { execFileSync("redis-cli", ["-p", port, "ping"], { stdio: "ignore" }); break; } catch { await setTimeout(50); }
  }
  const env = {
    WAFERGATE__ENGINE__KIND: "redis",
    WAFERGATE__ENGINE__REDIS_URL: `redis://127.0.0.1:${port}`,
    WAFERGATE__SERVER__TICKET_KEY: randomUUID(),
  };
  return { env, pid: server.pid, stop: () => { server.kill(); return once(server, "exit"); } };
}

/** Opens a tunnel, and has its client connected: what a newcomer waits for. */
async function newcomer(caller) {
  const { status, body } = await caller.call("POST", "/v1/tunnels", {});
  if (status !== 201) return { status };
  const client = await Promise.race([Client.dial(JSON.parse(body).connectUrl).catch(error => ({ status: error.code ?? "refused" })), setTimeout(LOST_MS, { status: "lost" })]);
  client.socket?.terminate();
  return { status: client.status ?? 200 };
}

/** Pushes of the quiet tenant to one client, messages of that client to its business server, or new clients; how long each took, and what failed. */
async function probe({ tunnel, client, caller, arrived }, { events, fresh, idempotent, signed, tunnels }, isOver) {
  const times = [], failures = {};
  while (!isOver()) {
    const word = randomUUID(), begin = performance.now();
    const came = new Promise(resolve => arrived.set(word, resolve));
    const inTime = promise => Promise.race([promise, setTimeout(LOST_MS, { status: "lost" })]);
    let answer = { status: 200 };
    if (fresh) caller.agent.destroy();
    if (tunnels) {
      answer = await newcomer(caller);
    } else if (events) {
      client.send(word);
    } else {
      const headers = idempotent ? { "idempotency-key": word } : {};
      answer = await inTime(caller.call("POST", "/v1/push", { to: { tunnels: [tunnel] }, content: word }, { headers, signed }));
    }
    if (answer.status === 200 && !tunnels) answer = await inTime(came.then(() => answer));
    if (answer.status === 200) times.push(performance.now() - begin);
    else failures[answer.status] = (failures[answer.status] ?? 0) + 1;
    arrived.delete(word);
    await setTimeout(2);
  }
  return { times: times.sort((a, b) => a - b), failures };
}

const at = (times, part) => times.length === 0 ? NaN : times[Math.min(times.length - 1, Math.floor(times.length * part))];
const counts = record => Object.entries(record).map(([name, count]) => `${count} × ${name}`).join(", ") || "–";

function residentMiB({ nodes }) {
  const kib = ({ pid }) => Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
  return nodes.map(kib).reduce((sum, one) => sum + one) / 1024;
}

/** The client of the quiet tenant on the last node; calls come to the first one. */
async function settle({ nodes }, arrived) {
  const there = new Caller(nodes.at(-1).url, QUIET);
  const { body } = await there.call("POST", "/v1/tunnels", {});
  const client = await Client.dial(JSON.parse(body).connectUrl);
  client.socket.on("message", data => { client.received.length = 0; arrived.get(data.toString())?.(); });
  return { tunnel: JSON.parse(body).tunnelId, client, caller: new Caller(nodes[0].url, QUIET), arrived };
}

async function measure(attack, options) {
  const { smoke, seconds } = options;
  const arrived = new Map();
  const business = createServer((request, response) => {
    // It is WeChat too, which never answers.
    if (request.url.startsWith("/sns/")) return;
    const pieces = [];
    request.on("data", piece => pieces.push(piece)).on("end", () => {
      response.end();
      arrived.get(JSON.parse(Buffer.concat(pieces)).data)?.();
    });
  }).listen(0, "127.0.0.1");
  await once(business, "listening");
  const webhookUrl = `http://127.0.0.1:${business.address().port}/`;
  const [own, other] = [await start(attack, webhookUrl, options), await start(attack, webhookUrl, options)];
  try {
    const quiet = await settle(own, arrived);
    const during = async time => {
      const end = performance.now() + time;
      return probe(quiet, attack.probe, () => performance.now() > end);
    };
    const beside = async gateway => {
      const hostile = begin(attack, gateway, options);
      await setTimeout(smoke ? 300 : 1_500);
      const probed = await during(2_000 * seconds);
      const ready = await new Caller(gateway.nodes[0].admin).send("GET", "/readyz", { host: "localhost" });
      return { ...probed, ready: ready.status, answers: await hostile.stop() };
    };
    await during(smoke ? 50 : 1_000);
    const calm = await during(1_000 * seconds);
    const elsewhere = await beside(other);
    await other.stop();
    const memory = [residentMiB(own)];
    let peak = 0;
    const watch = setInterval(() => { peak = Math.max(peak, residentMiB(own)); }, 50);
    const here = await beside(own);
    clearInterval(watch);
    const lines = own.nodes.reduce((sum, node) => sum + node.output.length, 0);
    await setTimeout(smoke ? 100 : AFTER_MS);
    memory.push(peak, residentMiB(own));
    return { calm, elsewhere, here, memory, lines };
  } finally {
    await Promise.all([own.stop(), other.stop()]);
    business.closeAllConnections();
    business.close();
  }
}

const HEAD = ["pot", "taken by", "share", "other tenant's", "calm p50 / p99 ms", "attack on another gateway", "beside p50 / p99 ms", "× p99 of that", "its failures", "readyz",
  "MiB before / most / after", "log lines", "attacker had"];

function row(attack, { calm, elsewhere, here, memory, lines }) {
  const ms = ({ times }) => `${at(times, 0.5).toFixed(2)} / ${at(times, 0.99).toFixed(2)}`;
  const { tunnels, events } = attack.probe;
  return [attack.pot, attack.by, attack.share, tunnels ? "new client" : events ? "message" : "push", ms(calm), ms(elsewhere), ms(here),
    (at(here.times, 0.99) / at(elsewhere.times, 0.99)).toFixed(2), counts(here.failures), here.ready,
    memory.map(mib => mib.toFixed(0)).join(" / "), lines, counts(here.answers)];
}

async function main(words) {
  const chosen = options(words);
  const attacks = ATTACKS.filter(({ pot }) => chosen.wanted.length === 0 || chosen.wanted.some(word => pot.includes(word)));
  if (attacks.length === 0) throw new Error(`no pot has ${chosen.wanted} in its name: ${ATTACKS.map(({ pot }) => pot).join(", ")}`);
  process.setMaxListeners(0);
  // The certificates of the pots of TLS are signed by themselves.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  process.removeAllListeners("warning");
  if (chosen.tool !== undefined) execFileSync("taskset", ["-acp", chosen.tool, process.pid], { stdio: "ignore" });
  // It is bound, and never read: whoever asks it waits.
  const deaf = createSocket("udp4").on("error", error => console.error(`dead names may be answered: ${error.message}`)).bind(53, DEAD_NAME_SERVER);
  const print = cells => console.log(`| ${cells.join(" | ")} |`);
  print(HEAD);
  print(HEAD.map(() => "---"));
  let isSound = true;
  for (const attack of attacks) {
    const result = await measure(attack, chosen);
    print(row(attack, result));
    isSound &&= result.here.times.length > 0 && Object.keys(result.here.failures).length === 0;
  }
  deaf.close();
  process.exit(isSound ? 0 : 1);
}

if (process.argv[2] === "--attack") await attack(JSON.parse(process.argv[3]));
else await main(process.argv.slice(2));
