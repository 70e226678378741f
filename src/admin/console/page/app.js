// The shell: header, search, login, the router, and the one stream of the open page.

import { el, fill, say } from "./dom.js";
import * as endpoints from "./endpoints.js";
import * as live from "./live.js";
import { Failure, api, logIn, logOut, onLoginNeeded, stream } from "./net.js";
import * as now from "./now.js";
import { failureBox, finding, link, showError } from "./parts.js";
import * as tenants from "./tenants.js";
import * as tunnel from "./tunnel.js";
import { language, learn, ms, short, switchLanguage, t } from "./words.js";

/** How often a page loads what its stream leaves out. */
const RELOAD_MS = 10_000;

/** @type {Record<string, { show: Show }>} */
const PAGES = { now, endpoints, tunnels: tunnel, tenants, live };

/** @type {Overview | null} */
let overview = null;
/** @type {Page | null} */
let page = null;
/** @type {{ close(): void } | null} */
let frames = null;
let reloads = 0;

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
const main = el("main", { id: "main", tabindex: "-1" });
const banner = el("div", { class: "banner", role: "status", hidden: true });
const state = el("span", { class: "state" }, t("connecting"));
const nodeName = el("span", { class: "node-name" });
const vitals = el("div", { class: "vitals" });
const search = el("input", { type: "search", name: "q", autocomplete: "off", spellcheck: "false" });
const dialog = el("dialog", { class: "login" });
dialog.addEventListener("cancel", (event) => event.preventDefault());

function place() {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [name = "", ...rest] = path.split("/");
  return { name: Object.hasOwn(PAGES, name) ? name : "now", rest: decoded(rest.join("/")), query: new URLSearchParams(query) };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function shell() {
  document.documentElement.lang = language();
  for (const name of ["placeholder", "aria-label"]) search.setAttribute(name, t("search"));
  const items = Object.keys(PAGES).map((name) => el("a", { href: `#/${name}`, "data-page": name }, t(name)));
  const find = el("form", { class: "find", role: "search", onsubmit: look }, search, el("kbd", {}, "/"));
  const tools = el(
    "div",
    { class: "tools" },
    el("button", { class: "quiet", type: "button", onclick: speak, "data-testid": "language" }, t("language")),
    el("button", { class: "quiet", type: "button", onclick: () => logOut().catch(() => {}).then(() => location.reload()) }, t("logOut")),
  );
  fill(
    app,
    el("header", {}, link("now", "brand", "wafergate"), el("div", { class: "where" }, state, nodeName), find, tools),
    el("nav", { class: "pages", "aria-label": "wafergate" }, ...items),
    vitals,
    banner,
    main,
    dialog,
  );
}

/** @param {Event} event */
function look(event) {
  event.preventDefault();
  const text = search.value.trim();
  if (text === "") return;
  const isId = /^t[0-9a-f]{32}$/.test(text);
  location.hash = `#/${isId ? `tunnels/${text}` : finding(text)}`;
  search.blur();
}

function speak() {
  switchLanguage();
  shell();
  if (overview) head(overview.pulse);
  route();
}

/** Asks for the token until one is right. @returns {Promise<void>} */
function askToken() {
  return new Promise((resolve) => {
    const field = el("input", { type: "password", name: "token", autocomplete: "current-password", required: true, "data-testid": "token" });
    const wrong = el("div", {});
    const button = el("button", { class: "main", type: "submit" }, t("logIn"));
    /** @param {Event} event */
    const submit = async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        await logIn(field.value.trim());
        dialog.close();
        fill(dialog);
        resolve();
      } catch (error) {
        showError(wrong, error);
        field.select();
      } finally {
        button.disabled = false;
      }
    };
    const form = el("form", { onsubmit: submit }, el("p", { class: "brand" }, "wafergate"), el("label", {}, t("token"), field), button, wrong, el("p", { class: "soft" }, t("loginHelp")));
    fill(dialog, form);
    if (!dialog.open) dialog.showModal();
    field.focus();
  });
}

/** Shows the figures that every page has. @param {Pulse} pulse */
function head(pulse) {
  const isBad = pulse.obstacle !== null || !pulse.isEngineUp || !pulse.hasRoom;
  const word = isBad ? "troubled" : pulse.isDraining ? "draining" : "serving";
  say(state, t(word));
  state.dataset.state = word;
  say(nodeName, overview?.node ?? "");
  /** @type {[string, string, string, boolean][]} */
  const figures = [
    ["tunnels", short(pulse.tunnels), t("tunnels"), false],
    ["endpoints?sort=busy", short(pulse.delivered + pulse.failed) + t("perSecond"), t("events"), false],
    ["endpoints?sort=failing", short(pulse.failed) + t("perSecond"), t("failures"), pulse.failed > 0],
    ["endpoints?sort=slow", ms(pulse.p99Ms), t("latency"), false],
    ["endpoints?sort=failing", short(pulse.waiting), t("waiting"), pulse.breakersOpen > 0],
  ];
  if (vitals.childElementCount !== figures.length) fill(vitals, ...figures.map(([hash]) => link(hash, "", el("b", {}), el("span", {}))));
  figures.forEach(([, value, name, isAlarming], at) => {
    const item = /** @type {HTMLElement} */ (vitals.children[at]);
    say(/** @type {Element} */ (item.firstElementChild), value);
    say(/** @type {Element} */ (item.lastElementChild), name);
    item.classList.toggle("bad-text", isAlarming);
  });
}

/** @param {string} text */
function announce(text) {
  say(banner, text);
  banner.hidden = text === "";
}

/** Shows the page of the address. */
function route() {
  const { name, rest, query } = place();
  frames?.close();
  clearInterval(reloads);
  fill(main);
  for (const item of app.querySelectorAll("[data-page]")) {
    if (item.getAttribute("data-page") === name) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  vitals.hidden = name === "now";
  fill(vitals);
  if (overview) head(overview.pulse);
  const shown = (page = /** @type {(typeof PAGES)[string]} */ (PAGES[name]).show(main, rest, query, { overview: () => overview }));
  const load = () => {
    if (document.hidden || page !== shown) return;
    shown.load?.().catch((error) => {
      if (!(error instanceof Failure)) throw error;
      if (page === shown) announce(error.message || t("reconnecting"));
    });
  };
  load();
  reloads = setInterval(load, RELOAD_MS);
  frames = stream(shown.view ?? "now", take, (isOpen) => {
    announce(isOpen ? "" : t("reconnecting"));
    if (isOpen) load();
  });

  /** @param {Frame} frame */
  function take(frame) {
    if (overview) overview.pulse = frame.pulse;
    head(frame.pulse);
    announce(frame.skipped > 0 ? t("skipped", frame.skipped) : "");
    shown.frame?.(frame);
  }
}

/** @param {KeyboardEvent} event */
function press(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const isWriting = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
  if (isWriting || event.ctrlKey || event.metaKey || event.altKey) return;
  const name = Object.keys(PAGES)[Number(event.key) - 1];
  if (event.key === "/") {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (name) {
    location.hash = `#/${name}`;
  }
}

async function start() {
  shell();
  onLoginNeeded(askToken);
  // `demo` prints an address with the token behind `#`, where it reaches no log.
  const given = /^#token=([^&]+)$/.exec(location.hash)?.[1];
  if (given !== undefined) {
    history.replaceState(null, "", "#/now");
    await logIn(decoded(given)).catch(() => {});
  }
  for (;;) {
    try {
      learn(await api("words"));
      overview = await api("overview");
      break;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      fill(main, failureBox({ code: error.code, reason: error.message }));
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
  }
  addEventListener("hashchange", route);
  addEventListener("keydown", press);
  route();
}

start();
