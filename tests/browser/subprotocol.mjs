// A browser fails a connection whose answer names none of the subprotocols that its page offered.
//
// WAFERGATE_BIN: the binary. CHROMIUM: the browser (default /usr/bin/chromium).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

import { KEY, TENANT, startGateway } from "../native/support/gateway.mjs";

let gateway;
let browser;
let page;

before(async () => {
  gateway = await startGateway("http://127.0.0.1:1/");
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
  });
  page = await browser.newPage();
  await page.goto(`${gateway.url}/v1/openapi.json`);
});

after(async () => {
  await browser?.close();
  await gateway?.stop();
});

async function issue() {
  const headers = { authorization: `Bearer ${TENANT}:${KEY}` };
  const answer = await fetch(`${gateway.url}/v1/tunnels`, { method: "POST", headers });
  return (await answer.json()).connectUrl;
}

/** What a page gets that offers these: the subprotocol, or the code that its connection ends with. */
const dial = (url, offered) =>
  page.evaluate(
    ([url, offered]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url, offered);
        socket.onopen = () => (resolve(socket.protocol), socket.close());
        socket.onclose = ({ code }) => resolve(code);
      }),
    [url, offered],
  );

test("a page gets the subprotocol that it offers, and keeps its connect URL when it cannot", async () => {
  assert.equal(await dial(await issue(), ["chat.v2", "chat"]), "chat.v2");
  assert.equal(await dial(await issue(), ["wafergate.resume.v1", "chat"]), "chat");
  assert.equal(await dial(await issue(), []), "");

  const url = await issue();
  assert.equal(await dial(url, ["wafergate.resume.v1"]), 1006);
  assert.equal(await dial(url, ["chat"]), "chat");
});
