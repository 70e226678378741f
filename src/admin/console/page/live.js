// Records of all tunnels as they are written.

import { el, fill, say } from "./dom.js";
import { bar, button, recordRow } from "./parts.js";
import { number, t } from "./words.js";

/** Rows that stay in the page. */
const MAX_ROWS = 2_000;

/** @type {Show} */
export const show = (main, _rest, query) => {
  const text = el("input", { type: "search", name: "filter", value: query.get("q"), placeholder: t("search"), "aria-label": t("search") });
  const failed = el("input", { type: "checkbox", checked: query.has("failed") });
  const list = el("ul", { class: "records", "data-testid": "records" });
  const missed = el("span", { class: "soft" });
  const pause = button(t("pause"), () => say(pause, t((isPaused = !isPaused) ? "goOn" : "pause")));
  let isPaused = false;
  let skipped = 0;
  // Another filter is another stream, without lines of the one before.
  const choose = (/** @type {Event} */ event) => {
    event.preventDefault();
    location.hash = `#/live?q=${encodeURIComponent(text.value)}${failed.checked ? "&failed" : ""}`;
  };
  fill(main, bar(t("live"), el("form", { class: "bar filter", onsubmit: choose, onchange: choose }, text, el("label", {}, failed, ` ${t("onlyFailed")}`)), pause, missed), list);
  return {
    view: `tail&q=${encodeURIComponent(text.value)}${failed.checked ? "&failed" : ""}`,
    frame({ news }) {
      if (!news) return;
      skipped += news.skipped + (isPaused ? news.lines.length : 0);
      if (skipped > 0) say(missed, t("moreRecords", number(skipped)));
      if (isPaused) return;
      list.prepend(...news.lines.reverse().map((line) => recordRow(line, true)));
      while (list.childElementCount > MAX_ROWS) list.lastElementChild?.remove();
    },
  };
};
