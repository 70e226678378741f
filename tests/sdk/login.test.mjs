// Logs in through the unmodified SDKs: qcloud-weapp-server-sdk on express, wafer-client-sdk on a phone, and the session service.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import { after, before, describe, it } from "node:test";

import express from "express";
import sdk from "qcloud-weapp-server-sdk";

import { load } from "./support/client.mjs";
import { Gateway } from "./support/gateway.mjs";
import { APP, WeChat } from "./support/wechat.mjs";
import { Phone } from "./support/wx.mjs";

const { LoginService, config } = sdk;

/** Where the client SDK keeps its session. */
const SESSION_KEY = "weapp_session_F2C224D4-2BCE-4C64-AF9F-A6D872000D1A";
const WAFER_KEY = "path-key-hush-0123456789";

/** One user with the client SDK. */
class User {
  phone = new Phone();

  constructor(name, wechat, url) {
    Object.assign(this.phone.wx, {
      login: ({ success }) => success({ code: (this.brought = wechat.login(name)).code }),
      getUserInfo: ({ success }) => success(this.brought),
      checkSession: ({ success }) => success(),
    });
    this.sdk = load("wafer-client-sdk", this.phone.wx);
    this.sdk.setLoginUrl(`${url}/login`);
    this.url = url;
  }

  login = () => new Promise((success, fail) => this.sdk.login({ success, fail }));

  /** Asks for the page of the logged-in user; logs in first unless told otherwise. */
  ask = (login = true) =>
    new Promise((success, fail) => this.sdk.request({ url: `${this.url}/user`, login, success: ({ data }) => success(data), fail }));

  get session() {
    return this.phone.wx.getStorageSync(SESSION_KEY);
  }

  set session(session) {
    this.phone.wx.setStorageSync(SESSION_KEY, session);
  }
}

describe("logins through the SDKs", () => {
  let wechat, gateway, server, url;

  const startGateway = ({ secret = wechat.secret, file } = {}) => {
    const key = randomUUID();
    const text = `
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
ticket_key = "ticket-key-hush-of-32-characters"

[session]
enabled = true
store = ${JSON.stringify(file ? `sqlite://${file}` : "memory")}
wechat_url = "${wechat.url}"

[[session.apps]]
app_id = "${APP}"
secret = "${secret}"

[[session.apps]]
app_id = "wx2"
secret = "${secret}"
wafer_key = "${WAFER_KEY}"

[[tenants]]
server_host = "127.0.0.1"
keys = ["${key}"]

[drain]
window_secs = 1
flush_secs = 1

[log]
level = "debug"
`;
    return Gateway.with(text, [key, secret, WAFER_KEY, "ticket-key-hush-of-32-characters"]);
  };
  const user = name => new User(name, wechat, url);

  before(async () => {
    wechat = await WeChat.start();
    const app = express();
    app.get("/login", (request, response) => LoginService.create(request, response).login(() => {}));
    app.get("/user", (request, response) =>
      LoginService.create(request, response).check((error, result) => error || response.json(result.userInfo)));
    server = app.listen(0, "127.0.0.1");
    await once(server, "listening");
    url = `http://127.0.0.1:${server.address().port}`;
    gateway = await startGateway();
    config({ ServerHost: "127.0.0.1", AuthServerUrl: `${gateway.url}/mina_auth/` });
  });

  after(async () => {
    server?.close();
    server?.closeAllConnections();
    wechat?.stop();
    // It also looks for secrets in everything that was logged, at level debug.
    gateway?.secrets.push(...wechat.secrets);
    await gateway?.stop();
  });

  it("a user logs in and is known to the business server", async () => {
    const ann = user("安-😀");
    assert.equal((await ann.login()).nickName, "安-😀");
    gateway.secrets.push(ann.session.skey);

    const info = await ann.ask();
    assert.equal(info.openId, "o安-😀");
    assert.deepEqual([info.nickName, info.gender, info.watermark.appid], ["安-😀", 1, APP]);
    assert.equal(ann.phone.answers.all({}).length, 2, "no further login");
  });

  it("an ended session makes the client log in again by itself", async () => {
    const bob = user("bob");
    await bob.login();
    bob.session = { ...bob.session, skey: "k0123456789abcdef0123456789abcdef" };
    assert.equal((await bob.ask()).openId, "obob");

    const thief = user("thief");
    for (const id of ['" or 1=1 #', "' or '1'='1", 'x" union select appid,1,1,1 from cAppinfo #']) {
      thief.session = { id, skey: "x", userInfo: {} };
      assert.equal((await thief.ask()).openId, "othief", "it logs in as itself");
    }
  });

  it("users with several phones, and several logins at a time, stay logged in", async () => {
    const phones = Array.from({ length: 5 }, () => user("eve"));
    await Promise.all(phones.map(phone => phone.login()));
    const infos = await Promise.all(phones.map(phone => phone.ask()));
    assert.ok(infos.every(info => info.openId === "oeve"));
    assert.equal(new Set(phones.map(phone => phone.session.skey)).size, 5);
    assert.ok(phones.every(phone => phone.phone.answers.all({}).length === 2));
  });

  it("a refused login says why", async () => {
    const wrong = await startGateway({ secret: "another-secret-hush" });
    config({ AuthServerUrl: `${wrong.url}/mina_auth/` });
    const error = await user("carl").login().then(assert.fail, error => error);
    assert.match(error.message, /1007 - WEIXIN_RETURN_ERR \(40125 invalid appsecret\)/);
    config({ AuthServerUrl: `${gateway.url}/mina_auth/` });
    const dora = user("dora");
    dora.phone.wx.getUserInfo = ({ success }) => success({ ...dora.brought, iv: Buffer.alloc(16).toString("base64") });
    assert.match((await dora.login().then(assert.fail, error => error)).message, /60021 - DECRYPT_FAIL/);
    await wrong.stop();
  });

  it("an address with a key works from anywhere", async () => {
    config({ AuthServerUrl: `${gateway.url}/mina_auth/wx2/${WAFER_KEY}` });
    const error = await user("finn").login().then(assert.fail, error => error);
    assert.match(error.message, /60021 - DECRYPT_FAIL/, "the data is of another app");
    config({ AuthServerUrl: `${gateway.url}/mina_auth/wx2/wrong` });
    assert.match((await user("finn").login().then(assert.fail, error => error)).message, /1010/);
    config({ AuthServerUrl: `${gateway.url}/mina_auth/` });
  });

  it("no answered login is lost when the gateway is killed", async () => {
    const folder = `${gateway.folder}-sessions`;
    mkdirSync(folder);
    const file = `${folder}/sessions.db`;
    const logins = [];
    try {
      for (let round = 0; round < 3; round += 1) {
        const victim = await startGateway({ file });
        config({ AuthServerUrl: `${victim.url}/mina_auth/` });
        const phones = Array.from({ length: 40 }, (_, number) => user(`${round}-${number}`));
        const running = phones.map(phone => phone.login().then(() => logins.push(phone), () => {}));
        // Some are answered, some are not.
        await Promise.any(running.slice(10, 15));
        victim.child.kill("SIGKILL");
        await Promise.all(running);
      }
      const survivor = await startGateway({ file });
      config({ AuthServerUrl: `${survivor.url}/mina_auth/` });
      assert.ok(logins.length > 3, `${logins.length} logins were answered`);
      const answers = await Promise.all(logins.map(phone => phone.ask(false)));
      assert.ok(answers.every(info => info.openId?.startsWith("o")));
      assert.ok(logins.every(phone => phone.phone.answers.all({}).length === 2), "nobody logged in again");
      survivor.secrets.push(...wechat.secrets, ...logins.map(phone => phone.session.skey));
      await survivor.stop();
    } finally {
      rmSync(folder, { recursive: true, force: true });
      config({ AuthServerUrl: `${gateway.url}/mina_auth/` });
    }
  });
});
