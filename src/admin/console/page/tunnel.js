// Tunnels: a search, those where most waits, and the story of one.

import { el, fill, keyed } from "./dom.js";
import { Failure, api } from "./net.js";
import { bar, button, empty, factList, finding, link, recordRow, showError, tunnelRow } from "./parts.js";
import { bytes, explain, number, t, time } from "./words.js";

/** @type {Show} */
export const show = (main, rest, query, shell) => {
  if (rest !== "") return one(main, rest, shell);
  const text = query.get("q");
  return text === null ? slowest(main) : found(main, text);
};

/** @param {HTMLElement} main */
function slowest(main) {
  const list = el("ul", { class: "rows" });
  const note = el("div", {});
  fill(main, bar(t("tunnels")), el("h2", {}, t("slowest")), list, note);
  return {
    async load() {
      /** @type {Found[]} */
      const tunnels = await api("slow");
      keyed(list, tunnels, (tunnel) => `${tunnel.tunnelId} ${tunnel.events} ${tunnel.pushBytes}`, tunnelRow);
      fill(note, tunnels.length === 0 && empty(t("noneSlow"), t("noneSlowNote")));
    },
  };
}

/** @param {HTMLElement} main @param {string} text */
function found(main, text) {
  const list = el("ul", { class: "rows", "data-testid": "found" });
  const note = el("div", {});
  /** @type {Found[]} */
  let all = [];
  fill(main, bar(t("tunnels"), el("code", {}, text)), list, note);
  /** @param {string | null} cursor */
  async function next(cursor) {
    try {
      /** @type {FoundPage} */
      const page = await api(`${finding(text)}${cursor ? `&cursor=${cursor}` : ""}`);
      all = cursor ? [...all, ...page.tunnels] : page.tunnels;
      keyed(list, all, (tunnel) => tunnel.tunnelId, tunnelRow);
      fill(note, all.length === 0 && empty(t("noTunnels"), t("noTunnelsNote")), page.nextCursor && button(t("more"), () => next(page.nextCursor)));
    } catch (error) {
      showError(note, error);
    }
  }
  next(null);
  return {};
}

/** @param {HTMLElement} main @param {string} id @param {Shell} shell */
function one(main, id, shell) {
  const facts = el("section", { "data-testid": "tunnel" });
  const actions = el("section", { class: "actions" });
  const records = el("ul", { class: "records", "data-testid": "records" });
  const note = el("ul", { class: "soft" });
  const older = el("div", {});
  fill(main, bar(id), facts, actions, el("h2", {}, t("timeline"), el("span", { class: "soft" }, ` ${t("ladder")}`)), note, records, older);

  /** The answer that is shown; null with further pages. @type {string | null} */
  let newest = "";
  /** Shows the newest records of all nodes, or further ones. @param {number | null} [before] */
  async function tell(before) {
    /** @type {Story} */
    const story = await api(`tunnels/${encodeURIComponent(id)}/timeline${before ? `?before=${before}` : ""}`);
    const text = JSON.stringify(story);
    if (!before && (text === newest || newest === null)) return;
    newest = before ? null : text;
    if (!before) fill(records);
    records.append(...story.records.reverse().map((line) => recordRow(line, false)));
    fill(note, ...story.nodes.map(coverage));
    fill(older, records.childElementCount === 0 && empty(t("noRecords"), t("noRecordsNote")), story.before !== null && button(t("more"), () => tell(story.before).catch((error) => showError(older, error))));
  }

  /** @param {Tunnel} tunnel */
  function draw(tunnel) {
    const { queues } = tunnel;
    fill(
      facts,
      factList([
        [t("tenant"), tunnel.tenant],
        [t("user"), tunnel.user ? link(finding(`user:${tunnel.user}`), "", tunnel.user) : "–"],
        [t("groups"), tunnel.groups.length === 0 ? "–" : tunnel.groups.map((group) => link(finding(`group:${group}`), "tag", group))],
        [t("node"), tunnel.node],
        [t("since"), time(tunnel.connectedSince)],
        [t("receiveUrl"), tunnel.url ? link(finding(tunnel.url), "url", tunnel.url) : "–"],
        [t("eventQueue"), `${number(queues.events)} · ${bytes(queues.eventBytes)}`],
        [t("pushQueue"), bytes(queues.pushBytes)],
        [t("inFlight"), `${tunnel.endpoint.inFlight}/${tunnel.endpoint.inFlightLimit}, ${tunnel.endpoint.waiting} ${t("inLine")}`],
      ]),
      tunnel.lastError && el("p", { class: "reason bad-text" }, tunnel.lastError),
    );
    if (actions.childElementCount === 0) fill(actions, ...(shell.overview()?.canWrite ? buttons(id) : []));
  }

  let shown = "";
  let isHere = false;
  /** @param {Tunnel} tunnel */
  function update(tunnel) {
    const text = JSON.stringify(tunnel);
    if (text === shown) return;
    shown = text;
    draw(tunnel);
  }
  return {
    view: /^t[0-9a-f]{32}$/.test(id) ? `tunnel&id=${id}` : "now",
    async load() {
      try {
        await Promise.all([tell(), api(`tunnels/${encodeURIComponent(id)}`).then(update)]);
      } catch (error) {
        if (!(error instanceof Failure) || error.code === "no_answer") throw error;
        shown = "";
        fill(actions);
        showError(facts, error);
      }
    },
    /** @param {Frame} frame */
    frame({ tunnel, news }) {
      if (news && news.lines.length > 0) {
        fill(older);
        if (newest) newest = "";
        records.prepend(...news.lines.reverse().map((line) => recordRow(line, false)));
      }
      if (tunnel) update(tunnel);
      else if (isHere) this.load().catch(() => {});
      isHere = tunnel !== undefined;
    },
  };
}

/** What a node has of a timeline. @param {Story["nodes"][number]} part */
const coverage = ({ node, sinceMs, isComplete, gap }) => el("li", { class: isComplete ? "" : "warn-text" }, node && `${node}: `, gap ? explain(`timeline_${gap}`)?.sentence : t(isComplete ? "complete" : "covers", time(sinceMs ?? 0)));

/** What may be done with a tunnel. @param {string} id */
function buttons(id) {
  const result = el("div", { role: "status" });
  const text = el("textarea", { name: "text", rows: 2, maxlength: 16_000, required: true, placeholder: t("send"), "aria-label": t("send") });
  /** @param {string} path @param {unknown} body */
  const act = async (path, body) => {
    try {
      await api(`tunnels/${id}/${path}`, body);
      fill(result, el("p", { class: "good-text" }, t("done")));
    } catch (error) {
      showError(result, error);
    }
  };
  const dialog = el("dialog", {});
  const shut = () => {
    dialog.close();
    act("close", {});
  };
  fill(dialog, el("p", {}, t("closeAsk")), el("code", {}, id), el("div", { class: "buttons" }, button(t("cancel"), () => dialog.close()), el("button", { type: "button", class: "danger", onclick: shut, "data-testid": "close-sure" }, t("close"))));
  /** @param {Event} event */
  const send = (event) => {
    event.preventDefault();
    act("push", { text: text.value });
  };
  return [
    el("form", { class: "send", onsubmit: send }, text, el("button", { type: "submit", class: "main" }, t("send"))),
    el("button", { type: "button", class: "danger", onclick: () => dialog.showModal(), "data-testid": "close-tunnel" }, t("close")),
    result,
    dialog,
  ];
}
