// The console in a real browser, over a real gateway with thousands of tunnels. See support/demo.mjs for the environment;
// CONSOLE_TUNNELS: how many (default 1000). CONSOLE_PAGE: a folder whose files are shown instead of the compiled-in ones.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { chromium } from "playwright-core";

import { CHROMIUM, FLAGS, kill, startDemo } from "./support/demo.mjs";
import { TOKEN, open, openMany, startBusiness, startGateway } from "./support/gateway.mjs";
import { CORPUS } from "./support/xss.mjs";

const TUNNELS = Number(process.env.CONSOLE_TUNNELS ?? 1000);
const SCREENSHOTS = process.env.SCREENSHOT_DIR;
const PAGE = process.env.CONSOLE_PAGE;
const DESKTOP = { viewport: { width: 1280, height: 860 } };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

const SETTINGS = {
  // The clients of this test are silent.
  WAFERGATE__TUNNEL__HEARTBEAT_SECS: "600",
  WAFERGATE__CONSOLE__WRITE: "true",
  WAFERGATE__LIMITS__MESSAGES_PER_SEC_PER_CONNECTION: "0",
  WAFERGATE__TENANTS__0__LIMITS__CONNECTIONS: String(Math.ceil(TUNNELS * 1.3) + 200),
  WAFERGATE__TENANTS__1__SERVER_HOST: "api.example.com",
  WAFERGATE__TENANTS__1__KEYS: "a key of another tenant",
  WAFERGATE__TENANTS__1__LIMITS__CONNECTIONS: "500",
};

/** What the business server answers, by path. */
function answer(path) {
  const [, name, at] = path.split("/");
  if (name === "broken") return [500, '{"error":"database is locked"}'];
  if (name === "slow") return [200, "", 350];
  if (name === "hostile") return [400, CORPUS[Number(at)]];
  return [200, "", 4];
}

const wish = (business) => (at) => ({
  user: `user-${String(at).padStart(5, "0")}`,
  groups: [`room-${at % 40}`, "all"],
  webhookUrl: `${business.url}/${at % 50 === 7 ? "slow" : "events"}`,
});

describe("the console", { timeout: 300_000 }, () => {
  let business, gateway, browser, tunnels, talk, stranger;
  const contexts = [];

  /** A page with everything that went wrong on it. */
  async function visit(address, options = DESKTOP) {
    const context = await browser.newContext({ locale: "en-GB", ...options });
    contexts.push(context);
    if (PAGE) {
      await context.route(/\/console\/[a-z.]+$/, async (route) => {
        const response = await route.fetch();
        const path = join(PAGE, new URL(route.request().url()).pathname.slice("/console/".length));
        await route.fulfill(existsSync(path) ? { response, path } : { response });
      });
    }
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.troubles = [];
    page.on("pageerror", (error) => page.troubles.push(String(error)));
    page.on("console", (message) => message.type() === "error" && page.troubles.push(message.text()));
    await page.addInitScript(() => {
      window.violations = [];
      document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    });
    await page.goto(address);
    return page;
  }

  /** The console, logged in by its address; at another page of it, if that is named. */
  async function enter(options, hash = "now") {
    const page = await visit(`${gateway.admin}/console/#token=${encodeURIComponent(TOKEN)}`, options);
    await page.locator("main > *").first().waitFor();
    if (hash !== "now") await page.evaluate((to) => (location.hash = to), `#/${hash}`);
    return page;
  }

  async function picture(page, name) {
    if (!SCREENSHOTS) return;
    await mkdir(SCREENSHOTS, { recursive: true });
    await page.screenshot({ path: join(SCREENSHOTS, `console-${name}.png`), animations: "disabled" });
  }

  async function isSound(page) {
    assert.deepEqual(await page.evaluate(() => window.violations), [], "the policy is kept");
    assert.equal(await page.evaluate(() => window.xss), undefined, "no text runs");
    assert.deepEqual(page.troubles, []);
  }

  before(async () => {
    business = await startBusiness(answer);
    gateway = await startGateway(SETTINGS);
    const flags = [...FLAGS, "--host-resolver-rules=MAP attacker.example 127.0.0.1", "--enable-precise-memory-info"];
    browser = await chromium.launch({ executablePath: CHROMIUM, args: flags });
    tunnels = await openMany(gateway.url, TUNNELS, wish(business));
    const unlucky = await open(gateway.url, { user: "unlucky", webhookUrl: `${business.url}/broken` });
    tunnels.push(unlucky);
    let at = 0;
    talk = setInterval(() => {
      if (at % 49 === 0) unlucky.say("again");
      for (let next = 0; next < 3; next += 1) tunnels[(at += 7) % TUNNELS].say(`{"n":${at}}`);
    }, 40);
  });

  after(async () => {
    clearInterval(talk);
    await Promise.all(contexts.map((context) => context.close()));
    await browser?.close();
    for (const tunnel of tunnels ?? []) tunnel?.end();
    if (gateway) await kill(gateway);
    business?.close();
    stranger?.close();
  });

  test("asks for the token, and takes the right one only", async () => {
    const page = await visit(`${gateway.admin}/console/`);
    const field = page.getByTestId("token");
    await field.waitFor();
    await picture(page, "login");
    await field.fill("a wrong token");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").filter({ hasText: "this is not the token" }).waitFor();

    await field.fill(TOKEN);
    await page.keyboard.press("Enter");

    await page.getByTestId("card-tunnels").waitFor();
    const cookies = await page.context().cookies();
    assert.deepEqual(cookies.map(({ httpOnly, sameSite, path }) => [httpOnly, sameSite, path]), [[true, "Strict", "/console"]]);
    assert.equal(await page.evaluate(() => document.cookie), "", "scripts cannot read it");
    assert.deepEqual(page.troubles.filter((text) => !/401|403/.test(text)), []);
    await page.context().close();
  });

  test("shows thousands of tunnels at once, and lists none unasked", async () => {
    const page = await enter();
    const shown = page.getByTestId("card-tunnels").locator(".value");
    await page.waitForFunction((count) => document.querySelector("[data-testid=card-tunnels] .value")?.textContent?.replace(/\D/g, "") === String(count), TUNNELS + 1);
    assert.ok(await shown.isVisible());
    await page.reload();
    await page.getByTestId("card-tunnels").waitFor();
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
    const heap = await page.evaluate(() => performance.memory.usedJSHeapSize);
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    console.log(`${TUNNELS} tunnels: first paint ${Math.round(paint)} ms, heap ${(heap / 1e6).toFixed(1)} MB, ${nodes} elements`);
    assert.ok(paint < 2_000 && heap < 40 * 1024 * 1024 && nodes < 1_000);
    assert.equal(new URL(page.url()).hash, "#/now", "the token is not in the address any more");
    await isSound(page);
  });

  test("names what fails, why, and what to do, in three clicks", async () => {
    const page = await enter();
    await page.locator(".troubles .failure").filter({ hasText: "events_fail" }).getByRole("link").first().click();

    const first = page.getByTestId("endpoint").first();
    await first.locator(".url").filter({ hasText: "/broken" }).waitFor();
    await first.locator(".failure").filter({ hasText: "server_error" }).filter({ hasText: "answered 500" }).filter({ hasText: "What to do" }).waitFor();
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await first.getByRole("button", { name: "Copy as report" }).click();
    const report = await page.evaluate(() => navigator.clipboard.readText());
    for (const part of ["wafergate: server_error", "database is locked", `url: ${business.url}/broken`, "tenant: shop", "tunnel: t"]) assert.ok(report.includes(part), report);
    await first.locator("a.id").click();

    await page.getByTestId("tunnel").filter({ hasText: "unlucky" }).waitFor();
    const records = page.getByTestId("records").locator("li");
    await records.filter({ hasText: "requested" }).waitFor();
    await records.filter({ hasText: "server_error" }).filter({ hasText: "What to do" }).first().waitFor();
    await isSound(page);
  });

  test("follows records as they are written, and names what it leaves out", async () => {
    const page = await enter(DESKTOP, "live");
    const records = page.getByTestId("records").locator("li");
    await records.nth(5).waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByText("more did not fit").waitFor();
    await page.getByRole("checkbox").check();
    await page.waitForURL(/&failed$/);
    await records.first().waitFor();
    assert.equal(await page.locator("[data-testid=records] li:not(.failed)").count(), 0);
    await isSound(page);
  });

  test("finds tunnels by the keyboard, a page at a time", async () => {
    const page = await enter();
    await page.keyboard.press("/");
    await page.keyboard.type("group:all");
    await page.keyboard.press("Enter");

    const rows = page.getByTestId("found").locator("li");
    await page.waitForFunction(() => document.querySelectorAll("[data-testid=found] li").length === 50);
    await page.getByRole("button", { name: "More" }).click();
    await page.waitForFunction(() => document.querySelectorAll("[data-testid=found] li").length === 100);
    assert.equal(await rows.count(), 100);
    await page.keyboard.press("/");
    await page.keyboard.type("user-00042");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll("[data-testid=found] li").length === 1);
    await page.getByTestId("found").locator("a.id").click();
    await page.getByTestId("tunnel").filter({ hasText: "user-00042" }).waitFor();
    await page.keyboard.press("4");
    await page.getByTestId("tenant").filter({ hasText: "shop" }).waitFor();
    await isSound(page);
  });

  test("sends a message and closes a tunnel, after a question", async () => {
    const tunnel = await open(gateway.url, { user: "guest", webhookUrl: `${business.url}/events` });
    const received = once(tunnel.socket, "data");
    const ended = once(tunnel.socket, "close");
    const page = await enter(DESKTOP, `tunnels/${tunnel.tunnelId}`);
    await page.locator("textarea[name=text]").fill("ping");
    await page.getByRole("button", { name: "Send a test message" }).click();
    await page.getByText("Done", { exact: true }).waitFor();
    assert.equal((await received)[0].subarray(2).toString(), "ping");

    await page.getByTestId("close-tunnel").click();
    await page.getByTestId("close-sure").click();

    await page.getByTestId("tunnel").filter({ hasText: "not_open" }).waitFor();
    await ended;
    assert.deepEqual(page.troubles.filter((text) => !text.includes("404")), []);
  });

  test("shows hostile names and reasons as they are", async () => {
    const hostile = await Promise.all(CORPUS.map((text, at) => open(gateway.url, { user: text, groups: ["hostile", CORPUS[(at + 1) % CORPUS.length]], webhookUrl: `${business.url}/hostile/${at}` })));
    const page = await enter(DESKTOP, "tunnels?q=group:hostile");
    await page.waitForFunction(() => document.querySelectorAll("[data-testid=found] li").length === 50);
    await page.getByRole("button", { name: "More" }).click();
    await page.waitForFunction(() => document.querySelectorAll("[data-testid=found] li").length === 100);
    const names = await page.locator("[data-testid=found] .who").allTextContents();
    assert.deepEqual(names.sort(), [...CORPUS].sort());
    for (const at of [0, 5, 16, 22, 29, 38, 60, 75, 90, 99]) {
      await page.evaluate((id) => (location.hash = `#/tunnels/${id}`), hostile[at].tunnelId);
      await page.getByTestId("tunnel").filter({ hasText: CORPUS[at] }).waitFor();
    }
    await page.evaluate(() => (location.hash = "#/endpoints?sort=failing"));
    await page.locator(".failure .reason").filter({ hasText: "answered 400" }).first().waitFor();
    assert.ok((await page.locator(".failure .reason").count()) > 20);
    for (const text of CORPUS.slice(0, 8)) {
      await page.evaluate((hash) => (location.hash = hash), `#/tunnels?q=${encodeURIComponent(`user:${text}`)}`);
      await page.getByTestId("found").filter({ hasText: text }).waitFor();
    }
    await isSound(page);
    for (const tunnel of hostile) tunnel.end();
  });

  test("takes nothing from another origin, and no name that may be rebound", async () => {
    stranger = createServer((_, response) => response.setHeader("content-type", "text/html").end("<p>hello"));
    await once(stranger.listen(0, "127.0.0.1"), "listening");
    const { tunnelId } = tunnels[3];
    const page = await enter();
    const other = await page.context().newPage();
    await other.goto(`http://127.0.0.1:${stranger.address().port}/`);
    const path = `${gateway.admin}/console/api/tunnels/${tunnelId}/close`;

    const outcomes = await other.evaluate(async (path) => {
      const sent = (options) => fetch(path, { method: "POST", credentials: "include", body: "{}", ...options }).then(({ type }) => type, () => "failed");
      return [await sent({ mode: "no-cors" }), await sent({}), await sent({ headers: { "X-Wafergate": "1" } })];
    }, path);
    assert.deepEqual(outcomes, ["opaque", "failed", "failed"]);
    await other.evaluate((path) => {
      const form = Object.assign(document.createElement("form"), { method: "POST", action: path });
      document.body.append(form);
      form.submit();
    }, path);
    await other.waitForURL(/console\/api/);
    assert.equal((await page.evaluate((id) => fetch(`api/tunnels/${id}`).then(({ status }) => status), tunnelId)), 200, "it is open");
    const port = new URL(gateway.admin).port;
    const rebound = await other.goto(`http://attacker.example:${port}/console/`);
    assert.equal(rebound.status(), 421);
    await isSound(page);
  });

  test("goes on after a restart of the gateway without a reload", async () => {
    const page = await enter();
    await page.evaluate(() => (window.mine = true));
    const { host: listen } = new URL(gateway.url);
    const { host: admin } = new URL(gateway.admin);
    clearInterval(talk);
    await kill(gateway);
    tunnels = [];
    await page.getByText("This node does not answer").first().waitFor();
    await picture(page, "gone");

    gateway = await startGateway(SETTINGS, listen, admin);

    await page.waitForFunction(() => document.querySelector("[data-testid=card-tunnels] .value")?.textContent === "0");
    await page.locator(".banner").waitFor({ state: "hidden" });
    assert.equal(await page.evaluate(() => window.mine), true, "it is the same page");
    assert.equal(await page.evaluate(() => window.violations.length), 0);
  });

  test("looks well on a desk and on a phone, by day and night, in both languages", { skip: !SCREENSHOTS }, async () => {
    clearInterval(talk);
    if (tunnels.length === 0) tunnels = await openMany(gateway.url, Math.min(TUNNELS, 400), wish(business));
    const talkers = Math.min(TUNNELS, 400);
    const unlucky = await open(gateway.url, { user: "unlucky", groups: ["vip", "room-7"], webhookUrl: `${business.url}/broken` });
    tunnels.push(unlucky, await open(gateway.url, { user: "小明", webhookUrl: "http://127.0.0.1:9/events" }));
    let at = 0;
    let tick = 0;
    talk = setInterval(() => {
      const rate = 2 + Math.round(2 * Math.sin((tick += 1) / 120));
      for (let next = 0; next < rate; next += 1) tunnels[(at += 7) % talkers].say(`{"n":${at}}`);
      if (tick % 90 === 0) unlucky.say("again");
    }, 30);
    const pages = ["now", "endpoints?sort=failing", "tunnels", "tunnels?q=room-7", `tunnels/${unlucky.tunnelId}`, "tenants", "live"];
    await new Promise((resolve) => setTimeout(resolve, Number(process.env.CONSOLE_WARM_MS ?? 20_000)));
    for (const [size, options] of Object.entries({ desk: DESKTOP, phone: PHONE })) {
      for (const colorScheme of ["light", "dark"]) {
        for (const locale of ["en-GB", "zh-CN"]) {
          const page = await enter({ ...options, colorScheme, locale });
          for (const name of pages) {
            await page.evaluate((hash) => (location.hash = hash), `#/${name}`);
            await page.locator("main > *").first().waitFor();
            await page.waitForTimeout(1_300);
            const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
            assert.ok(wide <= 0, `${name} is ${wide} px too wide on a ${size}`);
            await picture(page, `${size}-${colorScheme}-${locale.slice(0, 2)}-${pages.indexOf(name)}-${name.split(/[/?]/)[0]}`);
          }
          await isSound(page);
          await page.context().close();
        }
      }
    }
  });
});

describe("the demo's console", { timeout: 60_000 }, () => {
  test("is open to whoever reads its address at the terminal", async () => {
    const demo = await startDemo("127.0.0.1:0");
    const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
    try {
      const page = await browser.newPage();
      await page.goto(await demo.console);
      await page.getByTestId("card-tunnels").waitFor();
      assert.equal(new URL(page.url()).hash, "#/now");
    } finally {
      await browser.close();
      await kill(demo);
    }
  });
});
