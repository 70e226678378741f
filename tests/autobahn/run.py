"""Runs Autobahn's cases, compression aside, against a WebSocket echo server: `python run.py --url ws://127.0.0.1:PORT`.

Exit code 0: every case passed our rules (`rules.py`); 1: a case failed; 2: the run itself was not what it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kosoku
import rules
from kosoku.cases import CASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from kosoku._kosoku import CaseResult

#: Seconds past the deadline after which the process ends itself, should the runner not let go.
LAST_RESORT = 10


class RunError(Exception):
    """The run was not what it should be, whatever the verdicts."""


def main() -> int:
    args = parse_args()
    faulthandler.dump_traceback_later(args.deadline + LAST_RESORT, exit=True)
    started = time.monotonic()
    rows: list[dict] = []
    try:
        asyncio.run(asyncio.wait_for(run(args, rows), args.deadline))
    except (RunError, TimeoutError) as error:
        print_failures(rows)
        print(f"autobahn: {str(error) or f'not done after {args.deadline:.0f} s'}", file=sys.stderr)
        return 2
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return report(rows, time.monotonic() - started)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="echo server that takes 16 MiB a message and 65,536 fragments")
    parser.add_argument("--capped-url", help=f"echo server that takes {rules.CAP} bytes a message (1009 on more)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every case's verdict to this file")
    parser.add_argument("--deadline", type=float, default=120, metavar="SECONDS", help="for the whole run")
    parser.add_argument("--parallel", type=int, default=8, metavar="CASES", help="cases of a group at a time")
    return parser.parse_args()


async def run(args: argparse.Namespace, rows: list[dict]) -> None:
    """Runs group after group: the large messages of group 9 must not slow cases that allow one second."""
    compared = compare_large_echoes()
    opened = []
    for group, (name, count) in rules.GROUPS.items():
        ids = [case for case in CASES if case.split(".")[0] == group]
        if len(ids) != count:
            raise RunError(f"group {group} has {len(ids)} cases, expected {count}")
        print(f"group {group}, {name}", file=sys.stderr)
        results = await run_cases(args.url, [case for case in ids if case not in rules.EXCLUDED], args.parallel)
        rows += [row(result, group, rules.problem(result, compared)) for result in results]
        opened += [result for result in results if result.expected_close]
    asked = rules.ending_counts(opened)
    if len(opened) == len(rows) and asked != rules.ENDINGS:
        raise RunError(f"endings asked for: {asked}, expected {rules.ENDINGS}")
    if args.capped_url:
        rows += await run_capped(args.capped_url, args.parallel)


async def run_capped(url: str, parallel: int) -> list[dict]:
    """Runs the large messages against a server that must refuse them with 1009."""
    print("large messages, capped", file=sys.stderr)
    results = await run_cases(url, [case for case in CASES if case.startswith(rules.LARGE)], parallel)
    if len(results) != rules.LARGE_CASES:
        raise RunError(f"{len(results)} large cases, expected {rules.LARGE_CASES}")
    return [row(result, "capped", rules.capped_problem(result)) for result in results]


async def run_cases(url: str, ids: list[str], parallel: int) -> list[CaseResult]:
    """Runs these cases and no others."""
    try:
        results = await kosoku.run_fuzzingclient(url, ids, concurrency=parallel)
    except kosoku.FailureError as failure:
        results = failure.results
    if [result.case_id for result in results] != ids:
        raise RunError(f"asked for {len(ids)} cases, got {len(results)} or others")
    return results


def compare_large_echoes() -> set[str]:
    """Makes the large cases compare the echo byte by byte; the set fills with the cases that did."""
    compared: set[str] = set()
    originals = {case: CASES[case].onMessage for case in CASES if case.startswith(rules.LARGE)}
    for case, original in originals.items():
        CASES[case].onMessage = comparing(case, original, compared)
    return compared


def comparing(case: str, original: Callable, compared: set[str]) -> Callable:
    """Autobahn's handler of one large case, followed by our comparison."""

    def on_message(self: Any, payload: str, is_binary: bool) -> None:
        original(self, payload, is_binary)
        sent = (self.PAYLOAD * (self.DATALEN // len(self.PAYLOAD) + 1))[: self.DATALEN]
        compared.add(case)
        if payload != sent:
            self.behavior, self.result = self.FAILED, "The echo differs from what was sent."

    return on_message


def row(result: CaseResult, group: str, problem: str | None) -> dict:
    return {
        "case": result.case_id,
        "group": group,
        "verdict": result.behavior.value,
        "close": result.behavior_close.value,
        "close_code": result.remote_close_code,
        "duration_ms": result.duration,
        "problem": problem,
    }


def report(rows: list[dict], seconds: float) -> int:
    """Prints the failures and the table by group; returns the exit code."""
    failed = print_failures(rows)
    print(f"{'group':<26}{'cases':>6}{'ok':>6}{'non-strict':>12}{'open':>6}{'failed':>8}")
    for group in dict.fromkeys(row["group"] for row in rows):
        mine = [row for row in rows if row["group"] == group]
        good = Counter(row["verdict"] for row in mine if not row["problem"])
        bad = sum(bool(row["problem"]) for row in mine)
        loose, left_open = good["NON-STRICT"], good["INFORMATIONAL"]
        ok = len(mine) - bad - loose - left_open  # a capped case that ends in 1009 is ok, whatever Autobahn's verdict
        name = f"{group} {rules.GROUPS[group][0]}" if group in rules.GROUPS else f"large, cap {rules.CAP}"
        print(f"{name:<26}{len(mine):>6}{ok:>6}{loose:>12}{left_open:>6}{bad:>8}")
    for case, reason in rules.EXCLUDED.items():
        print(f"not run: {case}: {reason}")
    print(f"kosoku {version('kosoku')}, {seconds:.1f} s")
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


def print_failures(rows: list[dict]) -> int:
    """One line for each failed case; returns how many there are."""
    failed = [row for row in rows if row["problem"]]
    for row in failed:
        print(f"FAILED {row['group']}: {row['case']}: {row['problem']}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
