// Code that the documents show, to be run as it stands there.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const text = name => readFileSync(new URL(`../../../docs/${name}`, import.meta.url), "utf8");

/** The first block of code behind `words` on a page. */
export function blockBehind(page, words) {
  const [, behind] = text(page).split(words);
  assert.ok(behind, `${page} has no ${words}`);
  return /^```\w+\n([\s\S]*?)^```$/m.exec(behind)[1];
}

/** Every block of code in a language on a page. */
export function blocks(page, language) {
  const fences = text(page).matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm);
  return [...fences].filter(fence => fence[1] === language).map(fence => fence[2]);
}
