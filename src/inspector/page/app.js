// The inspector: events left, one event right, replays. It asks for news and keeps what it has seen.

import { el, keyed } from "./dom.js";

const MOST = 1000;
const token = location.hash.slice(1);
const list = document.getElementById("list");
const detail = document.getElementById("detail");
const search = document.getElementById("search");
const state = document.getElementById("state");

/** Summaries by id. */
const events = new Map();
let chosen = null;
let view = "pretty";
let last = 0;

async function api(path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

const time = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false }) + "." + String(ms % 1000).padStart(3, "0");
const outcome = (event) => event.status ?? (event.attempts ? "--" : "...");
const colour = (status, attempts) => (status >= 200 && status < 300 ? "good" : status ? "warn" : attempts ? "bad" : "soft");

function visible() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (event) => `${event.id} ${event.tunnel} ${event.event} ${event.preview} ${event.reason ?? ""} ${event.status ?? ""}`.toLowerCase();
  return [...events.values()].filter((event) => words.every((word) => text(event).includes(word))).sort((a, b) => b.receivedMs - a.receivedMs || b.number - a.number);
}

function drawList() {
  const shown = visible();
  if (shown.length === 0) {
    const words = events.size ? "No event matches." : "No events yet. Let a client connect and say something.";
    keyed(list, [{ id: "" }], (item) => item.id, () => el("li", { class: "empty" }), (node) => { node.textContent = words; });
    return;
  }
  const make = (event) => el("li", { role: "option", onclick: () => choose(event.id) }, el("span", { class: "time" }), el("span", {}), el("span", { class: "preview" }), el("span", {}), el("span", { class: "ms" }));
  keyed(list, shown, (event) => event.id, make, (node, event) => {
    node.setAttribute("aria-selected", String(event.id === chosen));
    const [at, kind, preview, status, ms] = node.children;
    at.textContent = time(event.receivedMs);
    kind.textContent = event.event;
    preview.textContent = event.event === "message" ? event.preview : event.tunnel;
    status.textContent = outcome(event);
    status.className = colour(event.status, event.attempts);
    ms.textContent = event.ms == null ? "" : `${event.ms} ms`;
  });
}

async function choose(id) {
  chosen = id;
  drawList();
  list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  try {
    const found = await api(`api/events/${encodeURIComponent(id)}`);
    if (chosen === id) drawDetail(found);
  } catch (error) {
    if (chosen === id) detail.replaceChildren(el("p", { class: "bad" }, error.message));
  }
}

/** Lines of two texts: what is in one alone is marked. */
function difference(before, after) {
  const [old, young] = [before.split("\n"), after.split("\n")];
  const gone = old.filter((line) => !young.includes(line)).map((line) => el("span", { class: "removed" }, `- ${line}\n`));
  return [...gone, ...young.map((line) => (old.includes(line) ? `  ${line}\n` : el("span", { class: "added" }, `+ ${line}\n`)))];
}

const plain = (body) => (typeof body === "string" ? body : `Base64: ${body.base64}`);
const fields = (headers) => el("dl", {}, Object.entries(headers).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(entry) {
  const target = entry.attempts.at(-1)?.target || entry.event.url;
  const headers = Object.entries(entry.event.headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  return ["curl", "-i", ...headers, "--data-binary", quoted(plain(entry.body)), quoted(target)].join(" ");
}

function attemptNode(attempt, longest) {
  const name = attempt.attempt === 0 ? "replay" : `attempt ${attempt.attempt}`;
  const actions = attempt.actions ? `, ${attempt.actions} actions${attempt.attempt === 0 ? " (not carried out)" : ""}` : "";
  const result = attempt.status ? `${attempt.status}${actions}` : attempt.code;
  return el("div", { class: "attempt" },
    el("p", {}, el("b", {}, name), ` at ${time(attempt.beganMs)}, `, el("span", { class: colour(attempt.status, 1) }, result), ` after ${attempt.ms} ms`),
    attempt.reason && el("p", { class: "bad" }, attempt.reason),
    el("p", { class: "soft" }, attempt.target),
    el("meter", { class: "bar", min: 0, max: Math.max(1, longest), value: attempt.ms, title: "time of your server" }),
    plain(attempt.body) && el("pre", {}, plain(attempt.body)));
}

function drawDetail({ entry, text, before }) {
  const { event } = entry;
  const tab = (name, label) => el("button", { "aria-pressed": String(view === name), onclick: () => { view = name; drawDetail({ entry, text, before }); } }, label);
  const shown = {
    pretty: () => el("pre", {}, text),
    raw: () => el("pre", {}, plain(entry.body)),
    headers: () => fields(event.headers),
    diff: () => (before == null ? el("p", { class: "soft" }, "No earlier event of this tunnel is kept.") : el("pre", {}, difference(before, text))),
  };
  const waited = entry.attempts.length ? entry.attempts[0].beganMs - entry.receivedMs : 0;
  const longest = Math.max(0, ...entry.attempts.map((attempt) => attempt.ms));
  const copied = el("button", { onclick: async () => { await navigator.clipboard.writeText(curl(entry)); copied.textContent = "copied"; } }, "copy as curl");
  detail.replaceChildren(
    el("h1", {}, `${event.event} ${event.sequence ?? ""}`),
    el("p", { class: "soft" }, `${event.id} on ${event.tunnel}, for ${event.url}`),
    el("div", { class: "actions" }, el("button", { class: "main", onclick: () => replay(entry) }, "replay"), el("button", { onclick: () => edit(entry, text) }, "edit and replay"), copied),
    el("div", { class: "actions" }, tab("pretty", "event"), tab("raw", "raw body"), tab("headers", "headers"), tab("diff", "difference to the one before")),
    shown[view](),
    el("h2", {}, "Attempts"),
    el("p", { class: "soft" }, `waited ${waited} ms here`),
    ...(entry.attempts.length ? entry.attempts.map((attempt) => attemptNode(attempt, longest)) : [el("p", { class: "soft" }, "your server has not answered yet")]),
  );
}

async function replay(entry, text) {
  try {
    await api("api/replay", text == null ? { id: entry.event.id } : { id: entry.event.id, text });
    await choose(entry.event.id);
  } catch (error) {
    detail.prepend(el("p", { class: "bad" }, error.message));
  }
}

function edit(entry, text) {
  const area = el("textarea", { "aria-label": "event", spellcheck: "false" });
  area.value = text;
  const send = el("button", { class: "main", onclick: () => replay(entry, area.value) }, "sign and send");
  const cancel = el("button", { onclick: () => choose(entry.event.id) }, "cancel");
  detail.replaceChildren(el("h1", {}, "Edit"), el("p", { class: "soft" }, "It keeps its webhook-id, is signed now, and carries wafergate-replay: 1."), area, el("div", { class: "actions" }, send, cancel));
  area.focus();
}

async function current() {
  return chosen && api(`api/events/${encodeURIComponent(chosen)}`);
}

document.addEventListener("keydown", async (press) => {
  if (press.ctrlKey || press.metaKey || press.altKey) return;
  if (press.target.matches("input, textarea")) {
    if (press.key === "Escape") press.target.blur();
    return;
  }
  const shown = visible();
  const at = shown.findIndex((event) => event.id === chosen);
  const move = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[press.key];
  if (move && shown.length) {
    press.preventDefault();
    await choose(shown[Math.max(0, Math.min(shown.length - 1, at + move))].id);
  } else if (press.key === "/") {
    press.preventDefault();
    search.focus();
  } else if (press.key === "r" || press.key === "e" || press.key === "Enter") {
    const found = await current();
    if (!found) return;
    if (press.key === "r") await replay(found.entry);
    else if (press.key === "e") edit(found.entry, found.text);
    else drawDetail(found);
  }
});
search.addEventListener("input", drawList);

async function news() {
  for (;;) {
    try {
      const { events: found } = await api(`api/events?since=${last}`);
      state.textContent = "live";
      for (const event of found) {
        events.set(event.id, event);
        last = Math.max(last, event.number);
      }
      const oldest = [...events.values()].sort((a, b) => a.number - b.number).slice(0, Math.max(0, events.size - MOST));
      oldest.forEach((event) => events.delete(event.id));
      drawList();
      if (found.some((event) => event.id === chosen) && !detail.querySelector("textarea")) await choose(chosen);
    } catch (error) {
      state.textContent = error instanceof TypeError ? "the listener does not respond: is it running?" : error.message;
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}

if (token) {
  detail.replaceChildren(el("p", { class: "empty" }, "Choose an event."));
  drawList();
  news();
} else {
  state.textContent = "open the address that listen prints: its end is missing";
}
