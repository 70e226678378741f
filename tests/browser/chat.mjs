// Two people in two browsers chat over the real binary: `wafergate demo`. See support/demo.mjs for the environment.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";

import { Person, kill, startDemo } from "./support/demo.mjs";

/** Someone in the chat room. */
class Chatter extends Person {
  async says(word) {
    await this.part("message-input").fill(word);
    await this.part("message-input").press("Enter");
  }

  /** Waits until this person sees exactly these people, in any order. */
  async seesOnline(...names) {
    const expected = [...names].sort();
    await this.eventually("people online", expected, async () => {
      const shown = await this.part("online-list").locator("li > span:nth-child(2)").allTextContents();
      const count = Number(await this.part("online-count").textContent());
      return count === shown.length ? shown.sort() : `${count} counted, but ${shown}`;
    });
  }

  /** Waits until the last lines of the chat are these. */
  async seesLines(...words) {
    await this.eventually("lines", words, async () => {
      const shown = await this.part("message").locator("p").allTextContents();
      return shown.slice(-words.length);
    });
  }

  async seesSystemLine(text) {
    await this.part("system-line").filter({ hasText: text }).first().waitFor();
  }
}

describe("the chat page", { timeout: 180_000 }, () => {
  const people = [];
  let demo, ming, song;

  async function arrive(name, options) {
    const person = await Chatter.open(name, demo.url, options);
    people.push(person);
    return person;
  }

  before(async () => {
    demo = await startDemo("127.0.0.1:0");
  });

  after(async () => {
    await Promise.all(people.map((person) => person.close()));
    if (demo) await kill(demo);
  });

  test("asks for a name before it joins", async () => {
    ming = await arrive("小明", { viewport: { width: 1280, height: 800 }, colorScheme: "light" });

    await ming.part("join-button").click();

    await ming.page.getByRole("alert").filter({ hasText: "请先填写名字" }).waitFor();
    await ming.picture("1-join-desktop.png");
    await ming.reaches("left");
  });

  test("shows two people each other, live", async () => {
    await ming.join();
    await ming.seesOnline("小明");
    song = await arrive("青松", {
      viewport: { width: 390, height: 844 },
      colorScheme: "dark",
      deviceScaleFactor: 2,
      hasTouch: true,
      isMobile: true,
    });
    await song.part("name-input").fill(song.name);
    await song.picture("2-join-phone.png");

    await song.join();

    await ming.seesOnline("小明", "青松");
    await song.seesOnline("小明", "青松");
    await ming.seesSystemLine("青松 加入了聊天室");
  });

  test("carries lines both ways, as they were typed", async () => {
    await ming.says("你好，青松！");
    await song.seesLines("你好，青松！");
    await song.says("<b>hi</b> & \"bye\" \\ 😀");
    await ming.seesLines("你好，青松！", "<b>hi</b> & \"bye\" \\ 😀");

    assert.equal(await ming.page.locator(".line.mine[data-testid=message]").count(), 1);
    assert.equal(await song.page.locator(".line.mine[data-testid=message]").count(), 1);
  });

  test("keeps the order of lines, the same for everybody", async () => {
    const burst = (person) => Array.from({ length: 10 }, (_, n) => `${person.name} ${n + 1}`);
    const shown = (person) => person.part("message").locator("p").allTextContents();

    await Promise.all([ming, song].map(async (person) => {
      for (const word of burst(person)) await person.says(word);
    }));

    const expected = { ming: burst(ming), song: burst(song) };
    for (const person of [ming, song]) {
      await person.eventually("lines of each", expected, async () => {
        const words = await shown(person);
        return { ming: words.filter((word) => word.startsWith("小明 ")), song: words.filter((word) => word.startsWith("青松 ")) };
      });
    }
    assert.deepEqual(await shown(ming), await shown(song));
    await ming.picture("3-chat-desktop.png");
    await song.picture("4-chat-phone.png");
  });

  test("shows who comes later what was said", async () => {
    const hua = await arrive("白桦", { viewport: { width: 390, height: 844 } });

    await hua.join();

    await hua.seesLines(...(await ming.part("message").locator("p").allTextContents()).slice(-20));
    await hua.page.getByRole("button", { name: "人在线" }).click();
    await hua.part("online-list").getByText("青松").waitFor();
    await hua.picture("5-online-phone.png");
    await hua.page.keyboard.press("Escape");
    await hua.part("leave-button").click();
    await hua.reaches("left");
    await ming.seesSystemLine("白桦 离开了聊天室");
    await ming.seesOnline("小明", "青松");
    assert.deepEqual(hua.troubles, []);
  });

  test("cannot be ended by another page that is open in a browser", async () => {
    const stranger = createServer((_, response) => response.setHeader("content-type", "text/html").end("<p>hello"));
    await once(stranger.listen(0, "127.0.0.1"), "listening");
    const page = await ming.page.context().newPage();
    await page.goto(`http://127.0.0.1:${stranger.address().port}/`);

    await page.evaluate((admin) => fetch(`${admin}/drain`, { method: "POST", mode: "no-cors" }), demo.admin);

    const metrics = await (await fetch(`${demo.admin}/metrics`)).text();
    assert.match(metrics, /^wafergate_refused_total\{reason="admin_origin"\} 1$/m);
    assert.equal((await fetch(`${demo.admin}/readyz`)).status, 200);
    await page.close();
    stranger.close();
  });

  test("sees it when the other browser dies", async () => {
    assert.deepEqual(song.troubles, []);

    await song.dies();

    await ming.seesSystemLine("青松 离开了聊天室");
    await ming.seesOnline("小明");
    assert.deepEqual(ming.troubles, []);
  });

  test("comes back by itself after the gateway was gone", async () => {
    const { host } = new URL(demo.url);
    song = await arrive("银杏", { viewport: { width: 390, height: 844 }, colorScheme: "light" });
    await song.join();
    await ming.says("等一下");
    await song.seesLines("等一下");

    await kill(demo);
    await ming.reaches("reconnecting");
    await song.reaches("reconnecting");
    await ming.part("retry-button").waitFor();
    await song.picture("6-reconnecting-phone.png");
    demo = await startDemo(host);

    await ming.reaches("connected");
    await song.reaches("connected");
    await ming.seesOnline("小明", "银杏");
    await song.seesOnline("小明", "银杏");
    await song.says("我们回来了");
    await ming.seesLines("等一下", "我们回来了");
    await ming.says("嗯");
    await song.seesLines("我们回来了", "嗯");
  });

  test("leaves for good, and offers the name again after a reload", async () => {
    await ming.part("leave-button").click();

    await ming.reaches("left");
    await song.seesSystemLine("小明 离开了聊天室");
    await song.seesOnline("银杏");
    await ming.picture("7-left-desktop.png");
    await ming.page.reload();
    assert.equal(await ming.part("name-input").inputValue(), "小明");
    await ming.reaches("left");
    await ming.join();
    await song.seesOnline("小明", "银杏");
  });
});
