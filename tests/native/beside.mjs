// Measures what a push to many does to others: how long a push to one client takes, alone and beside pushes to a large group.
//
//   node beside.mjs [members] [seconds]    prints milliseconds from the call until the client has its message

import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout } from "node:timers/promises";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

import { Client, KEY, TENANT, startGateway } from "./support/gateway.mjs";

/** Most members that come at the same time. */
const AT_ONCE = 50;
/** How often the group is pushed to. */
const PUSHES_PER_SECOND = 4;

const call = (url, path, value) =>
  fetch(url + path, { method: "POST", body: JSON.stringify(value), headers: { authorization: `Bearer ${TENANT}:${KEY}` } })
    .then(async answer => (answer.ok ? answer.json() : Promise.reject(new Error(await answer.text()))));

/** In a thread of its own: the members, who read what they are sent, and whoever pushes to them. */
async function crowd({ url, members, seconds }) {
  const join = async () => Client.dial((await call(url, "/v1/tunnels", { groups: ["all"] })).connectUrl);
  for (let left = members; left > 0; left -= AT_ONCE) {
    const clients = await Promise.all(Array.from({ length: Math.min(left, AT_ONCE) }, join));
    for (const client of clients) client.socket.removeAllListeners("message");
  }
  parentPort.postMessage("here");
  await new Promise(resolve => parentPort.once("message", resolve));
  let reached = 0;
  for (let push = 0; push < seconds * PUSHES_PER_SECOND; push += 1) {
    const [answer] = await Promise.all([
      call(url, "/v1/push", { to: { group: "all" }, content: "x".repeat(100) }),
      setTimeout(1000 / PUSHES_PER_SECOND),
    ]);
    reached += answer.accepted;
  }
  parentPort.postMessage(reached);
}

/** Pushes to one client again and again until told to stop; the times that it took, in ascending order. */
async function probe(url, tunnel, client, isOver) {
  const times = [];
  while (!isOver()) {
    client.received.length = 0;
    const start = performance.now();
    const answered = call(url, "/v1/push", { to: { tunnels: [tunnel] }, content: "probe" });
    await client.until(() => client.received.length > 0);
    times.push(performance.now() - start);
    await answered;
    await setTimeout(2);
  }
  return times.sort((a, b) => a - b);
}

async function main(members, seconds) {
  const business = createServer((request, response) => request.resume().on("end", () => response.end())).listen(0, "127.0.0.1");
  await once(business, "listening");
  const { url, stop } = await startGateway(`http://127.0.0.1:${business.address().port}/`);
  const { tunnelId: tunnel, connectUrl } = await call(url, "/v1/tunnels", {});
  const client = await Client.dial(connectUrl);
  const print = (when, times) => {
    const at = part => times[Math.min(times.length - 1, Math.floor(times.length * part))].toFixed(2);
    console.log(`${when}: p50 ${at(0.5)}, p90 ${at(0.9)}, p99 ${at(0.99)}, slowest ${at(1)} ms of ${times.length}`);
  };

  const others = new Worker(new URL(import.meta.url), { workerData: { url, members, seconds } });
  const told = () => new Promise((resolve, reject) => others.once("message", resolve).once("error", reject));
  await told();
  const end = performance.now() + 1000 * seconds;
  print("alone", await probe(url, tunnel, client, () => performance.now() > end));
  let reached;
  others.postMessage("push");
  told().then(count => { reached = count; });
  print(`beside ${PUSHES_PER_SECOND} pushes a second to ${members}`, await probe(url, tunnel, client, () => reached !== undefined));
  if (reached !== members * seconds * PUSHES_PER_SECOND) throw new Error(`only ${reached} messages were accepted`);
  await stop();
  process.exit(0);
}

if (isMainThread) await main(Number(process.argv[2] ?? 5_000), Number(process.argv[3] ?? 10));
else await crowd(workerData);
