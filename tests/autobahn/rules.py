"""What a run must show: how many cases, and how each may end. Stricter than Autobahn, which passes a bare TCP drop."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kosoku._kosoku import CaseResult

#: Group -> its name and its number of cases, the excluded ones included. Groups 12 and 13 are compression.
GROUPS = {
    "1": ("framing", 16),
    "2": ("pings and pongs", 11),
    "3": ("reserved bits", 7),
    "4": ("opcodes", 10),
    "5": ("fragmentation", 20),
    "6": ("UTF-8", 145),
    "7": ("close handshake", 37),
    "9": ("limits and speed", 54),
    "10": ("auto-fragmentation", 1),
}

#: Case -> why it is not run.
EXCLUDED: dict[str, str] = {}

#: Case -> why a NON-STRICT verdict is good enough. Anywhere else NON-STRICT fails the run.
NON_STRICT = {
    "6.4.1": "bad UTF-8 may be refused when its message is complete; RFC 6455 asks for no earlier moment",
    "6.4.2": "as 6.4.1",
    "6.4.3": "as 6.4.1",
    "6.4.4": "as 6.4.1",
}

CLOSE_OPCODE = 8

#: A close frame without a code, as RFC 6455 numbers it.
EMPTY = 1005

#: Cases whose close codes we set apart from Autobahn's list.
CLOSE_CODES = {
    "7.3.1": {1000, EMPTY},  # an empty close frame may be answered with one
    "7.13.1": {1002},  # Autobahn leaves it open; 5000 is outside every range of close codes
    "7.13.2": {1002},  # so is 65535
}

#: How many of the cases run must end in which code, `a|b` where Autobahn names two; 7.7.* aside, where 1000 or the
#: case's own code will do. Compared with the run, so that a runner that no longer asks for a code is noticed.
ENDINGS = {"1000": 168, "1000|1005": 1, "1002": 43, "1002|1007": 1, "1007": 75}
OWN_CODE = "7.7."

#: Messages of 64 KiB to 16 MiB, of which Autobahn compares the length alone.
LARGE = ("9.1.", "9.2.", "9.3.", "9.4.", "9.5.", "9.6.")
LARGE_CASES = 42

#: The capped server takes messages of exactly this many bytes and closes with 1009 on more.
CAP = 65536
AT_CAP = {"9.1.1", "9.2.1"}


def wanted_codes(result: CaseResult) -> set[int]:
    """The close codes that this case may end with."""
    return CLOSE_CODES.get(result.case_id) or set(result.expected_close["closeCode"])


def problem(result: CaseResult, compared: set[str]) -> str | None:
    """Why this case fails the run. `compared` holds the large cases whose echo was compared byte by byte."""
    if not result.passed:
        verdicts = f"{result.behavior.value}, close {result.behavior_close.value}"
        return f"{verdicts}: {result.result} {result.result_close}"
    if result.behavior.value == "NON-STRICT" and result.case_id not in NON_STRICT:
        return f"NON-STRICT: received {_short(result.received)}, wanted {_short(result.expected.get('OK'))}"
    if result.case_id.startswith(LARGE) and result.case_id not in compared:
        return "the echo was never compared"
    return _code_problem(result, wanted_codes(result))


def capped_problem(result: CaseResult) -> str | None:
    """The same for a server that takes at most `CAP` bytes a message."""
    if result.case_id not in AT_CAP:
        return _code_problem(result, {1009})
    if not result.passed:
        return f"a message of exactly {CAP} bytes must pass: {result.result}"
    return _code_problem(result, {1000})


def ending_counts(results: Iterable[CaseResult]) -> dict[str, int]:
    """How many of these opened cases demanded which close code, in the form of `ENDINGS`."""
    asked = (wanted_codes(result) for result in results if not result.case_id.startswith(OWN_CODE))
    return dict(Counter("|".join(map(str, sorted(codes))) for codes in asked))


def _code_problem(result: CaseResult, wanted: set[int]) -> str | None:
    codes = " or ".join(map(str, sorted(wanted)))
    if not result.rx_frame_stats.get(CLOSE_OPCODE):
        return f"no close frame came, wanted {codes}"
    code = result.remote_close_code or EMPTY
    return None if code in wanted else f"close code {code}, wanted {codes}"


def _short(events: object) -> str:
    text = repr(events)
    return text if len(text) <= 80 else text[:80] + "…"
