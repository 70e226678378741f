// The first page: what happens on this node at this moment, trouble first.

import { el, fill, keyed, say, spark } from "./dom.js";
import { api } from "./net.js";
import { empty, factList, failureBox, link, segments, troubles } from "./parts.js";
import { ms, short, t, time } from "./words.js";

/** @type {Card[]} */
const CARDS = [
  { name: "tunnels", href: "tunnels", kinds: ["good"], value: (pulse) => short(pulse.tunnels), note: (pulse) => t("newTunnels", short(pulse.connects), short(pulse.closes)), lines: (series) => [series.connects] },
  { name: "events", href: "endpoints?sort=busy", kinds: ["good", "bad"], value: (pulse) => short(pulse.delivered + pulse.failed) + t("perSecond"), note: (pulse) => t("pushesNote", short(pulse.messages)), lines: (series) => [series.delivered, series.failed] },
  { name: "failures", href: "endpoints?sort=failing", kinds: ["bad"], value: (pulse) => short(pulse.failed) + t("perSecond"), note: (_, lately) => t("failuresNote", short(lately)), lines: (series) => [series.failed], isBad: (pulse) => pulse.failed > 0 },
  { name: "latency", href: "endpoints?sort=slow", kinds: ["good", "soft"], value: (pulse) => ms(pulse.p99Ms), note: (pulse) => `p50 ${ms(pulse.p50Ms)}`, lines: (series) => [series.p99Ms, series.p50Ms] },
  { name: "pushes", href: "tunnels", kinds: ["good", "soft"], value: (pulse) => short(pulse.pushes) + t("perSecond"), note: () => t("pushesTo"), lines: (series) => [series.pushes, series.messages] },
  { name: "waiting", href: "endpoints?sort=failing", kinds: [], value: (pulse) => short(pulse.waiting), note: (pulse) => t("waitingNote", short(pulse.breakersOpen)), lines: () => [], isBad: (pulse) => pulse.breakersOpen > 0 },
];

/** @param {number[]} values */
const sum = (values) => values.reduce((all, value) => all + value, 0);

/** @type {Show} */
export const show = (main, _rest, query, shell) => {
  const isHour = query.get("span") === "hour";
  const wrong = el("section", { class: "troubles" });
  const facts = el("section", {});
  const cards = CARDS.map((card) => {
    const [value, note, line] = [el("b", { class: "value" }), el("span", { class: "soft" }), card.kinds.length > 0 ? spark(card.kinds) : null];
    const node = link(card.href, "card", el("span", { class: "name" }, t(card.name)), value, note, line?.node);
    node.dataset.testid = `card-${card.name}`;
    return { card, node, value, note, line };
  });
  const spans = segments([["now", t("lastMinute"), !isHour], ["now?span=hour", t("lastHour"), isHour]]);
  fill(main, wrong, el("section", { class: "cards" }, ...cards.map(({ node }) => node)), el("div", { class: "bar" }, spans), facts);

  /** @param {Overview} overview */
  function draw(overview) {
    const { pulse } = overview;
    const series = isHour ? overview.minutes : overview.seconds;
    const lately = sum(overview.seconds.failed);
    const found = troubles(pulse, lately);
    if (found.length > 0) {
      wrong.classList.remove("well");
      const make = (/** @type {Trouble} */ trouble) => failureBox({ ...trouble, facts: { node: overview.node, version: overview.version } });
      keyed(wrong, found, ({ code }) => code, make, (node, { reason = "" }) => {
        const words = node.querySelector(".reason");
        if (words) say(words, reason);
      });
    } else if (!wrong.classList.contains("well")) {
      keyed(wrong, [null], () => "well", () => empty(t("allWell"), t("failuresNote", 0)));
      wrong.classList.add("well");
    }
    for (const { card, node, value, note, line } of cards) {
      say(value, card.value(pulse));
      say(note, card.note(pulse, lately));
      node.classList.toggle("alarming", card.isBad?.(pulse) ?? false);
      line?.draw(card.lines(series));
    }
  }

  /** @param {Overview} overview */
  function drawFacts(overview) {
    const { pulse } = overview;
    fill(
      facts,
      factList([
        [t("node"), overview.node],
        [t("engine"), `${overview.engine} · ${t(pulse.isEngineUp ? "engineUp" : "engineDown")}`],
        [t("version"), [overview.version, overview.commit].filter((part) => part !== "").join(" · ")],
        [t("upSince"), time(overview.startedUnixSecs * 1_000)],
      ]),
      pulse.nodes > 1 && el("p", { class: "soft" }, t("otherNodes", pulse.nodes)),
    );
  }

  const known = shell.overview();
  if (known) {
    draw(known);
    drawFacts(known);
  }
  return {
    view: "now",
    async load() {
      const overview = shell.overview();
      if (overview) {
        Object.assign(overview, await api("overview"));
        draw(overview);
        drawFacts(overview);
      }
    },
    frame({ pulse, skipped }) {
      const overview = shell.overview();
      if (!overview) return;
      const { seconds } = overview;
      for (let missed = 0; missed <= Math.min(skipped, 59); missed += 1) {
        for (const name of /** @type {(keyof Series)[]} */ (Object.keys(seconds))) {
          seconds[name].shift();
          /** @type {(number | null)[]} */ (seconds[name]).push(pulse[name]);
        }
      }
      draw(overview);
    },
  };
};
