// A growing list that tests wait on: nothing in these tests sleeps for a fixed time, they wait for an entry to appear.

import { isDeepStrictEqual } from "node:util";

/** How long an expected entry may take, in milliseconds; generous, since it only ends tests that fail anyway. */
const DEADLINE_MS = 15_000;

/** An append-only record of things that happened, each with the time `at` which it did. */
export class Journal {
  entries = [];
  #checks = new Set();

  constructor(name) {
    this.name = name;
  }

  /** Records one entry and wakes whoever waits for it. */
  add(entry) {
    this.entries.push({ ...entry, at: performance.now() });
    for (const check of this.#checks) check();
  }

  /** Entries that have all the fields of `pattern`, with equal values; a function in it judges the value itself. */
  all(pattern) {
    return this.entries.filter(entry => matches(entry, pattern));
  }

  /** Resolves with the `count`-th entry matching `pattern`, past or future. */
  until(pattern, count = 1) {
    return new Promise((resolve, reject) => {
      const check = () => {
        const found = this.all(pattern);
        if (found.length >= count) settle(resolve, found[count - 1]);
      };
      const settle = (how, value) => {
        this.#checks.delete(check);
        clearTimeout(timer);
        how(value);
      };
      const timer = setTimeout(() => settle(reject, this.#missing(pattern, count)), DEADLINE_MS);
      this.#checks.add(check);
      check();
    });
  }

  #missing(pattern, count) {
    const last = this.entries.slice(-10).map(entry => JSON.stringify(entry).slice(0, 300));
    const wanted = `${count} x ${JSON.stringify(pattern).slice(0, 300)}`;
    return new Error(`${this.name}: waited in vain for ${wanted}; last entries:\n${last.join("\n")}`);
  }
}

function matches(entry, pattern) {
  return Object.entries(pattern).every(([field, wanted]) =>
    typeof wanted === "function" ? wanted(entry[field]) : isDeepStrictEqual(entry[field], wanted),
  );
}
