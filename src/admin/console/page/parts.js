// Pieces that several pages share: failures in words, rows of tunnels, empty states.

import { el, fill, say, svg } from "./dom.js";
import { Failure } from "./net.js";
import { clock, explain, kindWord, ms, short, t, time } from "./words.js";

/** The head of a page. @param {string} title @param {...Child} more */
export const bar = (title, ...more) => el("div", { class: "bar" }, el("h1", {}, title), ...more);

/** @param {string} label @param {() => void} onclick */
export const button = (label, onclick) => el("button", { type: "button", onclick }, label);

/** A link inside the page. @param {string} hash @param {string} kind @param {...Child} children */
export const link = (hash, kind, ...children) => el("a", { href: `#/${hash}`, class: kind }, ...children);

/** The page of what is found by a text. @param {string} text */
export const finding = (text) => `tunnels?q=${encodeURIComponent(text)}`;

/** @param {string} id */
export const tunnelLink = (id) => link(`tunnels/${encodeURIComponent(id)}`, "id", id);

/** A page without content, and why. @param {string} title @param {string} note */
export const empty = (title, note) => el("div", { class: "empty" }, el("p", { class: "strong" }, title), el("p", {}, note));

/** A failure: code, meaning, the node's reason, what to do, and a report to copy. @param {Trouble} trouble @param {...Node} more */
export function failureBox({ code, reason = "", level = "bad", when = "", href, facts = {} }, ...more) {
  const words = explain(code);
  const sentence = words?.sentence || reason || t("reconnecting");
  const report = () => {
    const lines = Object.entries(facts).map(([key, value]) => value && `${key}: ${value}`);
    return [`wafergate: ${code}`, sentence, reason !== sentence && reason, words?.fix, when, ...lines, new Date().toISOString()].filter(Boolean).join("\n");
  };
  return el(
    "div",
    { class: `failure ${level}`, role: level === "bad" ? "alert" : "status" },
    el("div", { class: "failure-head" }, el("code", {}, code), el("span", { class: "strong" }, sentence), copyButton(report)),
    reason && reason !== sentence && el("p", { class: "reason" }, reason),
    words && el("p", {}, el("b", {}, `${t("fix")}: `), href ? link(href, "more", words.fix) : words.fix),
    when && el("p", { class: "soft" }, when),
    ...more,
  );
}

/** Copies a text, or shows it where a page has no clipboard, as over plain HTTP. @param {() => string} text */
function copyButton(text) {
  const node = button(t("copy"), async () => {
    try {
      await navigator.clipboard.writeText(text());
      say(node, t("done"));
    } catch {
      node.replaceWith(el("textarea", { class: "report", readonly: true, rows: 6, "aria-label": t("copy") }, text()));
    }
  });
  node.className = "quiet";
  return node;
}

/** Shows why a call failed. @param {Element} place @param {unknown} error */
export function showError(place, error) {
  if (!(error instanceof Failure)) throw error;
  fill(place, failureBox({ code: error.code, reason: error.message }));
}

/** What is wrong with the node, the worst first. @param {Pulse} pulse @param {number} failedLately @returns {Trouble[]} */
export function troubles(pulse, failedLately) {
  const found = [];
  if (pulse.obstacle !== null || !pulse.isEngineUp) found.push({ code: "engine_away", level: "bad", reason: pulse.obstacle ?? "" });
  if (!pulse.hasRoom) found.push({ code: "no_descriptors", level: "bad" });
  if (pulse.breakersOpen > 0) found.push({ code: "breaker_open", level: "bad", reason: t("waitingNote", short(pulse.breakersOpen)), href: "endpoints?sort=failing" });
  if (failedLately > 0) found.push({ code: "events_fail", level: "bad", reason: t("failuresNote", short(failedLately)), href: "endpoints?sort=failing" });
  if (pulse.isDraining) found.push({ code: "draining", level: "warn" });
  return found;
}

/** A row of a list of tunnels. @param {Found} tunnel */
export function tunnelRow(tunnel) {
  const waits = tunnel.events > 0 || tunnel.pushBytes > 0;
  return el(
    "li",
    { class: "row tunnel" },
    el("div", { class: "row-main" }, tunnelLink(tunnel.tunnelId), el("span", { class: "who" }, tunnel.user ?? "")),
    el("div", { class: "row-facts soft" }, el("span", {}, tunnel.tenant), el("span", { class: "url" }, tunnel.url), el("span", {}, time(tunnel.connectedSince))),
    waits && el("div", { class: "row-facts" }, el("span", { class: "warn-text" }, `${t("eventQueue")}: ${short(tunnel.events)} · ${t("pushQueue")}: ${short(tunnel.pushBytes)}`)),
    tunnel.lastError && el("div", { class: "row-facts" }, el("span", { class: "reason" }, tunnel.lastError)),
  );
}

/** Links of which one is chosen. @param {[string, string, boolean][]} choices hash, label, whether it is chosen */
export const segments = (choices) => el("nav", { class: "segments" }, ...choices.map(([hash, label, isChosen]) => el("a", { href: `#/${hash}`, "aria-current": isChosen && "true" }, label)));

/** A list of names and values. @param {[string, Child | Child[]][]} facts */
export const factList = (facts) => el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, ...[value].flat()))));

/** From which of client, gateway and business server to which a record goes. @type {Record<string, [number, number]>} */
const WAYS = { requested: [2, 1], connected: [0, 1], attempt: [1, 2], push: [2, 0], action: [2, 1], slow: [0, 0], reading_paused: [0, 0], reading_resumed: [0, 0] };

/** A record: when, which way, what, and why. @param {Line} line @param {boolean} isOfMany whether it names its tunnel */
export function recordRow(line, isOfMany) {
  const [from, to] = line.type === "attempt" && line.event === "message" && line.attempt === 1 ? [0, 2] : (WAYS[line.type] ?? [1, 1]);
  const x = (/** @type {number} */ lane) => 8 + lane * 30;
  const tip = from < to ? -5 : 5;
  const way = from === to ? `M${x(from)} 6v8` : `M${x(from)} 10H${x(to)}m${tip} -4l${-tip} 4 ${tip} 4`;
  const rungs = [0, 1, 2].map((lane) => svg("path", { d: `M${x(lane)} 0v20`, class: "rung" }));
  const words = line.code ? explain(line.code) : null;
  const facts = [line.event && `${line.event} ${line.sequence ?? ""}`, line.attempt && line.attempt > 1 && `× ${line.attempt}`, line.status, line.ms !== undefined && ms(line.ms), line.bytes && `${line.bytes} B`, line.targets && `${line.accepted}/${line.targets}`];
  return el(
    "li",
    { class: line.failed ? "record failed" : "record" },
    el("time", { datetime: line.time }, clock(line.time)),
    svg("svg", { viewBox: "0 0 76 20", class: "way", "aria-hidden": "true" }, ...rungs, svg("path", { d: way })),
    el(
      "div",
      {},
      el("b", {}, kindWord(line.type)),
      ...facts.map((fact) => fact && el("span", {}, fact)),
      isOfMany && line.tunnel && tunnelLink(line.tunnel),
      isOfMany && el("span", { class: "soft" }, line.tenant),
      isOfMany && line.url && el("span", { class: "url soft" }, line.url),
      line.failed && el("code", {}, line.code),
      el("span", { class: "soft" }, words?.sentence),
      line.detail && el("span", { class: "reason" }, line.detail),
      line.failed && words?.fix && el("p", { class: "soft" }, `${t("fix")}: ${words.fix}`),
    ),
  );
}
