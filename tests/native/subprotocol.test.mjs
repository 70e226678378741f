// WebSocket clients that drop a connection whose answer names none of the subprotocols that they offered.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import WebSocket from "ws";

import { KEY, TENANT, startGateway } from "./support/gateway.mjs";

let gateway;
before(async () => { gateway = await startGateway("http://127.0.0.1:1/"); });
after(() => gateway.stop());

/** A fresh connect URL. */
async function issue() {
  const headers = { authorization: `Bearer ${TENANT}:${KEY}` };
  const answer = await fetch(`${gateway.url}/v1/tunnels`, { method: "POST", headers });
  return (await answer.json()).connectUrl;
}

/** The npm package `ws`: the subprotocol, or what it says when it is refused. */
async function withWs(url, offered) {
  const socket = new WebSocket(url, offered);
  try {
    await once(socket, "open");
    return socket.protocol;
  } catch (error) {
    return error.message;
  } finally {
    socket.terminate();
  }
}

/** What Node itself has, which is undici's; Node 20 wants to be asked for it. */
async function withNode(url, offered) {
  const script = `
    const socket = new WebSocket(process.argv[1], JSON.parse(process.argv[2]));
    socket.onopen = () => { console.log(socket.protocol); process.exit(); };
    socket.onerror = ({ message }) => { console.log(message); process.exit(); };
  `;
  const flags = globalThis.WebSocket ? [] : ["--experimental-websocket", "--no-warnings"];
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, "-e", script, url, JSON.stringify(offered)]);
  return stdout.trim();
}

for (const [name, dial, refused] of [
  ["ws", withWs, /Unexpected server response: 400/],
  ["Node's own WebSocket", withNode, /non-101 status code/],
]) {
  test(`${name} gets the subprotocol that it offers, and keeps its connect URL when it cannot`, async () => {
    assert.equal(await dial(await issue(), ["chat.v2", "chat"]), "chat.v2");
    assert.equal(await dial(await issue(), ["wafergate.resume.v1", "chat"]), "chat");
    assert.equal(await dial(await issue(), []), "");

    const url = await issue();
    assert.match(await dial(url, ["wafergate.resume.v1"]), refused);
    assert.equal(await dial(url, ["chat"]), "chat");
  });
}
