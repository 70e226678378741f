// Runs all scenarios for one pair of server SDK and client SDK. Each pair has a test file, and thereby a process, of its own.

import { after, afterEach, before, describe, it } from "node:test";

import { scenarios } from "./scenarios/index.mjs";
import { World } from "./support/world.mjs";

/** Declares the tests of `serverSdk` ("node1", "node2") with `clientSdk` ("wafer1", "wafer2"). */
export function testPair(serverSdk, clientSdk) {
  describe(`${serverSdk} with ${clientSdk}`, () => {
    let world;
    before(async () => {
      world = await World.start(serverSdk, clientSdk);
    });
    afterEach(() => world?.empty());
    after(() => world?.stop());

    for (const { name, run } of scenarios) it(name, { timeout: 60_000 }, () => run(world));
  });
}
