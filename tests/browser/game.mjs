// Two people in two browsers play 剪刀石头布 over the real binary: one leaves, one comes back. See support/demo.mjs for the environment.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Person, kill, startDemo } from "./support/demo.mjs";

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

/** Someone at a table. */
class Player extends Person {
  /** Waits until the middle of the page says this. */
  async seesResult(text) {
    await this.part("result").filter({ hasText: text }).waitFor();
  }

  /** Waits until the other seat shows this name, number of wins and note. */
  async seesOpponent(name, wins, note) {
    await this.eventually("the opponent", [name, note, String(wins)], () => this.part("opponent").locator("> *").allTextContents());
  }

  async shows(hand) {
    await this.part(hand).click();
  }
}

describe("the game", { timeout: 180_000 }, () => {
  const people = [];
  let demo, ming, song;

  async function arrive(name, options) {
    const person = await Player.open(name, `${demo.url}game`, options);
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

  test("is found from the chat room and asks for a name", async () => {
    ming = await Player.open("小明", demo.url, { ...PHONE, colorScheme: "light" });
    people.push(ming);
    await ming.part("game-link").click();
    await ming.page.waitForURL(`${demo.url}game`);

    await ming.part("join-button").click();

    await ming.page.getByRole("alert").filter({ hasText: "请先填写名字" }).waitFor();
    await ming.picture("game-1-join.png");
  });

  test("seats two people at a table", async () => {
    await ming.join();
    await ming.seesResult("等一个对手");
    assert.ok(await ming.part("rock").isDisabled(), "there is no opponent yet");
    await ming.picture("game-2-waiting.png");
    song = await arrive("青松", { ...PHONE, colorScheme: "dark" });

    await song.join();

    await ming.seesOpponent("青松", 0, "在想 Thinking");
    await song.seesOpponent("小明", 0, "在想 Thinking");
  });

  test("keeps a hand secret until both are shown, and counts", async () => {
    await ming.shows("rock");
    await ming.seesResult("等对方出手");
    await song.seesOpponent("小明", 0, "出好了 Ready");
    await ming.picture("game-3-ready.png");

    await song.shows("scissors");

    await ming.seesResult("你赢了");
    await song.seesResult("对方赢了");
    await song.seesOpponent("小明", 1, "在想 Thinking");
    await song.picture("game-4-lost.png");
    await ming.shows("paper");
    await song.shows("paper");
    await song.seesResult("平局");
    await ming.shows("paper");
    await song.shows("scissors");
    await song.seesResult("你赢了");
    await ming.seesOpponent("青松", 1, "在想 Thinking");
  });

  test("keeps the seat of a player who leaves, with the score", async () => {
    await song.page.goto("about:blank");
    await ming.seesOpponent("青松", 1, "离开了，位子留着 Away");
    await ming.picture("game-5-away.png");

    await song.page.goto(`${demo.url}game`);

    await song.reaches("connected");
    await song.seesOpponent("小明", 1, "在想 Thinking");
    await ming.seesOpponent("青松", 1, "在想 Thinking");
    await song.shows("rock");
    await ming.shows("scissors");
    await song.seesResult("你赢了");
  });

  test("finds another opponent", async () => {
    const mei = await arrive("梅", { viewport: { width: 1280, height: 800 }, colorScheme: "light" });
    await mei.join();
    await mei.seesResult("等一个对手");

    await ming.part("next").click();

    await mei.seesOpponent("小明", 0, "在想 Thinking");
    await ming.seesOpponent("梅", 0, "在想 Thinking");
    await song.seesResult("等一个对手");
    await mei.picture("game-6-desktop.png");
    await mei.dies();
    await ming.seesOpponent("梅", 0, "离开了，位子留着 Away");
  });

  test("left no errors in the consoles", () => {
    for (const person of people) assert.deepEqual(person.troubles, [], person.name);
  });
});
