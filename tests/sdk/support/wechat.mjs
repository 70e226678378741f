// WeChat's servers and its client, as far as logins need them. A code names its user and is good once.

import { createCipheriv, createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

/** The app of the tests. */
export const APP = "wx4f4bc4dec97d474b";

/** A running server. */
export class WeChat {
  secret = "appsecret-hush-0123456789abcdef01";
  /** Everything that must never be in a log. */
  secrets = [this.secret];
  #codes = new Map();
  #made = 0;

  static async start() {
    const wechat = new WeChat();
    wechat.server = createServer((request, response) => wechat.#answer(request, response)).listen(0, "127.0.0.1");
    await once(wechat.server, "listening");
    wechat.url = `http://127.0.0.1:${wechat.server.address().port}`;
    return wechat;
  }

  /** The code, and the data of the user that a mini-program sends along. */
  login(user) {
    const code = `code-hush-${(this.#made += 1)}`;
    this.#codes.set(code, user);
    const key = sessionKey(user);
    this.secrets.push(code, key.toString("base64"));
    const iv = createHash("md5").update(code).digest();
    const cipher = createCipheriv("aes-128-cbc", key, iv);
    const encryptedData = cipher.update(JSON.stringify(profile(user)), "utf8", "base64") + cipher.final("base64");
    return { code, encryptedData, iv: iv.toString("base64"), userInfo: { nickName: user } };
  }

  stop() {
    this.server.close();
    this.server.closeAllConnections();
  }

  #answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url);
    const refuse = (errcode, errmsg) => response.end(JSON.stringify({ errcode, errmsg: `${errmsg}, rid: 1` }));
    if (pathname !== "/sns/jscode2session") return refuse(-1, "system error");
    if (searchParams.get("secret") !== this.secret) return refuse(40125, "invalid appsecret");
    const user = this.#codes.get(searchParams.get("js_code"));
    if (!user) return refuse(40029, "invalid code");
    this.#codes.delete(searchParams.get("js_code"));
    response.setHeader("Content-Type", "text/plain");
    response.end(JSON.stringify({ session_key: sessionKey(user).toString("base64"), openid: `o${user}` }));
  }
}

function sessionKey(user) {
  return createHash("md5").update(`key of ${user}`).digest();
}

function profile(user) {
  return {
    openId: `o${user}`,
    nickName: user,
    gender: 1,
    language: "zh_CN",
    city: "",
    province: "",
    country: "",
    avatarUrl: "http://wx.qlogo.cn/x/0",
    watermark: { timestamp: 1477314187, appid: APP },
  };
}
