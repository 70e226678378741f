// The scenario list: every pair of SDKs runs all of them, in this order.

import { closing } from "./closing.mjs";
import { content } from "./content.mjs";
import { ending } from "./ending.mjs";
import { losing } from "./losing.mjs";
import { refusing } from "./refusing.mjs";
import { replacing } from "./replacing.mjs";
import { talking } from "./talking.mjs";

/** `{ name, run(world) }` each. */
export const scenarios = [...talking, ...content, ...refusing, ...closing, ...losing, ...replacing, ...ending];
