// What the browser tests share: the demo as a process, and people with a browser of their own.
//
// WAFERGATE_BIN: the binary. CHROMIUM: the browser (default /usr/bin/chromium). SCREENSHOT_DIR: where pictures go, if set.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join as joinPath } from "node:path";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const BINARY = process.env.WAFERGATE_BIN ?? "target/debug/wafergate";
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.SCREENSHOT_DIR;
const PATIENCE_MS = 20_000;
export const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts the demo and waits for the address it prints. */
export async function startDemo(listen) {
  const child = spawn(BINARY, ["demo", "--listen", listen], { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (chunk) => (log += chunk));
  const exited = once(child, "exit");
  let tellConsole;
  const consoleUrl = new Promise((resolve) => (tellConsole = resolve));
  const addresses = new Promise((resolve) => {
    const urls = [];
    createInterface({ input: child.stdout }).on("line", (line) => {
      const page = /http:\S+\/console\/#token=\w+/.exec(line);
      if (page) tellConsole(page[0]);
      const url = /http:\/\/127\.0\.0\.1:\d+\/?/.exec(line);
      if (url && urls.push(url[0]) === 2) resolve(urls);
    });
  });
  const [url, admin] = await Promise.race([
    addresses,
    exited.then(([code]) => assert.fail(`the demo ended with ${code}: ${log}`)),
  ]);
  return { child, exited, url, admin, console: consoleUrl };
}

/** Ends the process at once, as a crash would, and waits until it is gone. */
export async function kill({ child, exited }) {
  if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
  await exited;
}

/** One person with a browser process of their own. */
export class Person {
  static async open(name, url, options) {
    const person = new this();
    person.name = name;
    person.troubles = [];
    person.server = await chromium.launchServer({ executablePath: CHROMIUM, args: FLAGS });
    person.browser = await chromium.connect(person.server.wsEndpoint());
    const context = await person.browser.newContext(options);
    person.page = await context.newPage();
    person.page.setDefaultTimeout(PATIENCE_MS);
    person.page.on("pageerror", (error) => person.troubles.push(String(error)));
    person.page.on("console", (message) => message.type() === "error" && person.troubles.push(message.text()));
    await person.page.goto(url);
    return person;
  }

  part(id) {
    return this.page.getByTestId(id);
  }

  async join() {
    await this.part("name-input").fill(this.name);
    await this.part("join-button").click();
    await this.reaches("connected");
  }

  async reaches(state) {
    await this.page.locator(`[data-testid=status][data-state=${state}]`).waitFor();
  }

  /** Reads until `read` gives `expected`; the page's next frame is the pace. */
  async eventually(what, expected, read) {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const actual = await read();
      try {
        return assert.deepEqual(actual, expected, `${what}, as ${this.name} sees them`);
      } catch (error) {
        if (performance.now() > deadline) throw error;
      }
      await this.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    }
  }

  async picture(file) {
    if (!SCREENSHOTS) return;
    await mkdir(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: joinPath(SCREENSHOTS, file), animations: "disabled" });
  }

  /** Ends the browser as a crash or a battery would: nothing is said good-bye to. */
  async dies() {
    const browser = this.server.process();
    const exited = once(browser, "exit");
    process.kill(browser.pid, "SIGKILL");
    await exited;
  }

  async close() {
    if (this.server.process().exitCode === null && this.server.process().signalCode === null) await this.server.close();
  }
}
