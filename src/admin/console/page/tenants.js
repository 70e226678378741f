// Tenants against their limits.

import { el, fill, keyed } from "./dom.js";
import { api } from "./net.js";
import { bar, button, segments } from "./parts.js";
import { ms, number, short, t, time } from "./words.js";

/** @param {TenantRow["uses"][number]} use */
function meter({ name, used, limit }) {
  const part = Math.min(1, used / limit);
  const level = part >= 0.9 ? "bad" : part >= 0.7 ? "warn" : "good";
  const bar = el("span", {});
  bar.style.width = `${part * 100}%`;
  return el("div", { class: "use" }, el("span", {}, t(`limit_${name}`)), el("span", { class: `meter ${level}` }, bar), el("span", { class: "soft" }, `${short(used)} / ${short(limit)}`));
}

/** @param {TenantRow} row */
function makeRow(row) {
  const keys = row.keys.map((key) => el("span", { class: "tag" }, el("code", {}, key.fingerprint), ` ${key.lastUsed ? time(key.lastUsed) : t("neverUsed")}`));
  return el(
    "li",
    { class: "row tenant", "data-testid": "tenant" },
    el("div", { class: "row-main" }, el("span", { class: "strong" }, row.serverHost || row.id), row.serverHost && el("span", { class: "soft id" }, row.id)),
    el("div", { class: "uses" }, ...row.uses.map(meter)),
    el("div", { class: "row-facts soft" }, el("span", {}, `${number(row.openTunnels)} ${t("tunnels")}`), el("span", {}, `${number(row.delivered)} ${t("delivered")}, ${number(row.failed)} ${t("failed")} (${t("lastMinute")})`), row.p99Ms !== null && el("span", {}, `p99 ${ms(row.p99Ms)}`)),
    (row.refused > 0 || row.throttled > 0) && el("div", { class: "row-facts warn-text" }, `${number(row.refused)} ${t("refusedCalls")}, ${number(row.throttled)} ${t("throttled")}`),
    el("div", { class: "row-facts" }, ...keys),
  );
}

/** @type {Show} */
export const show = (main, _rest, query) => {
  const isById = query.get("sort") === "id";
  const list = el("ul", { class: "rows", "data-testid": "tenants" });
  const note = el("div", {});
  /** @type {TenantRow[]} */
  let all = [];
  fill(main, bar(t("tenants"), segments([["tenants", t("nearest"), !isById], ["tenants?sort=id", t("byId"), isById]])), list, note);
  /** @param {string | undefined} cursor */
  async function load(cursor) {
    /** @type {TenantPage} */
    const page = await api(`tenants?${isById ? "" : "near-limit&"}${cursor ? `cursor=${encodeURIComponent(cursor)}` : ""}`.replace(/[?&]$/, ""));
    all = cursor ? [...all, ...page.tenants] : page.tenants;
    keyed(list, all, (row) => JSON.stringify(row), makeRow);
    fill(note, page.nextCursor && button(t("more"), () => load(page.nextCursor)));
  }
  return {
    async load() {
      // Further pages stay as they were loaded.
      if (all.length <= 50) await load(undefined);
    },
  };
};
