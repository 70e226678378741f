// Measures what a far business server costs: client -> server -> client by the actions of an answer, against a /v1/push.
//
//   node delay.mjs [rounds]    prints milliseconds for 0, 30 and 100 ms of delay each way between gateway and business server
//
// A push over a kept connection crosses as often as an answer does. A new connection crosses twice more before it carries anything
// (the proxy cannot hold back a TCP handshake, so the script waits for as long), and who waits for the push's answer before he
// answers the event holds back the tunnel's next event: hence the burst, ten messages sent at once until the tenth reply.

import { once } from "node:events";
import { Agent, createServer as createHttpServer, request as httpRequest } from "node:http";
import { connect, createServer } from "node:net";
import { setTimeout } from "node:timers/promises";

import { Client, KEY, TENANT, startGateway } from "./support/gateway.mjs";

const rounds = Number(process.argv[2] ?? 30);

/** A TCP proxy that holds everything back for `delayMs`, in both directions. */
async function proxy(port, delayMs) {
  const later = (from, to) => {
    from.on("data", data => setTimeout(delayMs).then(() => to.writable && to.write(data)));
    from.on("close", () => setTimeout(delayMs).then(() => to.destroy()));
    from.on("error", () => {});
  };
  const server = createServer({ noDelay: true }, socket => {
    const other = connect({ port, host: "127.0.0.1", noDelay: true });
    later(socket, other);
    later(other, socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** One call over a kept connection, as a business server would make it. */
function push(agent, port, value) {
  const body = JSON.stringify(value);
  const headers = { authorization: `Bearer ${TENANT}:${KEY}`, "content-length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const call = httpRequest({ agent, host: "127.0.0.1", port, method: "POST", path: "/v1/push", headers }, answer => {
      answer.resume().on("end", resolve);
    });
    call.on("error", reject).end(body);
  });
}

async function measure(delayMs) {
  const kept = new Agent({ keepAlive: true, noDelay: true });
  const agents = { "push, kept connection": kept, "push, then the answer": kept, "push, new connection": new Agent({ noDelay: true }) };
  let towardsGateway;
  const business = createHttpServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const event = JSON.parse(Buffer.concat(chunks));
    const reply = () => push(agents[event.data], towardsGateway.address().port, { to: { tunnels: [event.subject] }, content: "reply" });
    switch (event.data) {
      case "actions":
        return response.end(JSON.stringify({ actions: [{ push: { content: "reply" } }] }));
      case "push, kept connection":
        response.end();
        return reply();
      case "push, new connection":
        response.end();
        await setTimeout(2 * delayMs);
        return reply();
      case "push, then the answer":
        await reply();
    }
    response.end();
  }).listen(0, "127.0.0.1");
  await once(business, "listening");
  const towardsBusiness = await proxy(business.address().port, delayMs);
  const gateway = await startGateway(`http://127.0.0.1:${towardsBusiness.address().port}/`);
  const gatewayPort = Number(new URL(gateway.url).port);
  towardsGateway = await proxy(gatewayPort, delayMs);

  const opened = await fetch(`${gateway.url}/v1/tunnels`, { method: "POST", headers: { authorization: `Bearer ${TENANT}:${KEY}` } });
  const client = await Client.dial((await opened.json()).connectUrl);
  const medians = {};
  for (const way of ["actions", ...Object.keys(agents)]) {
    const time = async count => {
      client.received.length = 0;
      const start = performance.now();
      for (let sent = 0; sent < count; sent += 1) client.send(way);
      await client.until(() => client.received.length === count);
      return performance.now() - start;
    };
    for (let round = 0; round < 3; round += 1) await time(1);
    const times = [];
    for (let round = 0; round < rounds; round += 1) times.push(await time(1));
    const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
    medians[way] = [median, await time(10)];
  }
  client.socket.terminate();
  await gateway.stop();
  for (const server of [towardsGateway, towardsBusiness]) server.close();
  business.closeAllConnections();
  business.close();
  kept.destroy();
  return medians;
}

for (const delayMs of [0, 30, 100]) {
  for (const [way, [single, burst]] of Object.entries(await measure(delayMs))) {
    console.log(`${delayMs} ms each way, ${way}: ${single.toFixed(1)} ms, burst of ten ${burst.toFixed(0)} ms`);
  }
}
process.exit(0);
