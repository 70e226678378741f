// The console's modules, checked by TypeScript through their JSDoc: `tsc --checkJs --strict`.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

test("the console's modules have the types that they say", () => {
  const compiler = join(here, "node_modules", "typescript", "bin", "tsc");
  const { status, stdout } = spawnSync(process.execPath, [compiler, "-p", join(here, "console.tsconfig.json")], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});
