// Receive URLs, those with trouble first: what they take, how fast, and why they fail.

import { el, fill, keyed, say, spark } from "./dom.js";
import { api } from "./net.js";
import { bar, empty, failureBox, segments, tunnelLink } from "./parts.js";
import { ms, number, short, t, time } from "./words.js";

const ORDERS = ["failing", "slow", "busy"];

/** @returns {Shown} */
function makeRow(/** @type {EndpointRow} */ first) {
  const status = el("span", { class: "status" });
  const line = spark(["good", "bad"]);
  const hour = el("span", { class: "soft" });
  const failure = el("div", {});
  const values = [t("delivered"), t("failed"), "p50", "p99", t("inLine"), t("inFlight")].map((name) => ({ name, node: el("b", {}) }));
  /** @param {number} at @param {string} text */
  const set = (at, text) => values[at] && say(values[at].node, text);
  const node = el(
    "li",
    { class: "row endpoint", "data-testid": "endpoint" },
    el("div", { class: "row-main" }, status, el("span", { class: "url strong" }, first.url), el("span", { class: "soft" }, first.tenant)),
    line.node,
    el("div", { class: "figures" }, ...values.map(({ name, node }) => el("div", { class: "figure" }, node, el("span", { class: "soft" }, name)))),
    hour,
    failure,
  );
  let told = "";
  return {
    node,
    figures(row) {
      const word = row.isDown ? "down" : row.isFailing ? "failing" : "ok";
      say(status, t(word));
      status.dataset.state = word;
      [short(row.delivered), short(row.failed), ms(row.p50Ms), ms(row.p99Ms), short(row.waiting)].forEach((text, at) => set(at, text));
      values[1]?.node.classList.toggle("bad-text", row.failed > 0);
    },
    row(row) {
      line.draw([row.deliveredBySecond, row.failedBySecond]);
      set(5, `${row.inFlight}/${row.inFlightLimit}`);
      say(hour, `${t("lastHour")}: ${number(row.hourDelivered)} ${t("delivered")}, ${number(row.hourFailed)} ${t("failed")}`);
      const last = row.failure;
      // A failure stays as it is while it says the same, so that its report can be copied.
      const tells = last === null ? "" : `${last.reason} ${last.at} ${row.isFailing}`;
      if (tells === told) return;
      told = tells;
      if (last === null) return fill(failure);
      const facts = { url: row.url, tenant: row.tenant, tunnel: last.tunnelId, at: last.at, since: last.since, delivered: row.hourDelivered, failed: row.hourFailed };
      fill(failure, failureBox({ code: last.code, reason: last.reason, level: row.isFailing ? "bad" : "past", when: t("lastFailure", time(last.at), time(last.since)), facts }, el("p", { class: "soft" }, tunnelLink(last.tunnelId))));
    },
  };
}

/** @type {Show} */
export const show = (main, _rest, query) => {
  const sort = ORDERS.find((name) => name === query.get("sort")) ?? "failing";
  const list = el("ul", { class: "rows", "data-testid": "endpoints" });
  const note = el("div", {});
  /** @type {Map<string, Shown>} */
  const rows = new Map();
  let isStale = false;
  fill(
    main,
    bar(t("endpoints"), segments(ORDERS.map((name) => [`endpoints?sort=${name}`, t(name), sort === name])), el("span", { class: "soft" }, t("lastMinute"))),
    list,
    note,
  );

  async function load() {
    isStale = false;
    /** @type {EndpointPage} */
    const page = await api(`endpoints?sort=${sort}`);
    keyed(
      list,
      page.endpoints,
      (row) => row.key,
      (row) => {
        const shown = makeRow(row);
        rows.set(row.key, shown);
        return shown.node;
      },
      (_, row) => {
        rows.get(row.key)?.figures(row);
        rows.get(row.key)?.row(row);
      },
    );
    const keys = new Set(page.endpoints.map((row) => row.key));
    for (const key of rows.keys()) if (!keys.has(key)) rows.delete(key);
    fill(note, page.endpoints.length === 0 && empty(t("noEndpoints"), t("noEndpointsNote")), page.unmeasuredAttempts > 0 && el("p", { class: "soft" }, t("unmeasured", page.measured, number(page.unmeasuredAttempts))));
  }
  return {
    view: `endpoints&sort=${sort}`,
    load,
    frame({ endpoints = [] }) {
      for (const row of endpoints) {
        const shown = rows.get(row.key);
        shown?.figures(row);
        // A new one appears within a frame, not at the next reload.
        if (!shown && !isStale) {
          isStale = true;
          load().catch(() => {});
        }
      }
    },
  };
};
