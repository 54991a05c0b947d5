"""`python -m tests.faults`: a long run of the fault tests, with a seed that anybody can repeat; `make fault-test`."""

import argparse
import asyncio
import logging
import random
import sys

from tests.faults.proxy import FAULTS
from tests.faults.rig import UNITS, WAYS, Outcome, run


def main() -> int:
    """Run, print a line for each transport and one for all; 1 if a promise was broken."""
    options = _parser().parse_args()
    logging.disable(logging.WARNING)
    ways = options.ways or list(WAYS)
    plans = [(way, units) for way in ways for units in UNITS]
    outcomes = [_one(way, units, len(plans), options) for way, units in plans]
    print(_sum(outcomes, options.seed))
    return 0 if all(outcome.is_clean for outcome in outcomes) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="default: one that is printed")
    parser.add_argument("--readings", type=int, default=1_000_000, help="how many, over all transports together")
    parser.add_argument("--seconds", type=float, default=3600.0, help="the longest time, over all together")
    parser.add_argument("--timeout", type=float, default=0.06, help="the devices' timeout in seconds")
    parser.add_argument("--share", type=float, default=0.2, help="of the requests, those to which something happens")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS, help="default: all there are")
    parser.add_argument("ways", nargs="*", metavar="WAY", choices=[*WAYS, []], help=f"default: {' '.join(WAYS)}")
    return parser


def _one(way: str, units: int, of: int, options: argparse.Namespace) -> Outcome:
    plan = {"timeout_s": options.timeout, "share": options.share, "kinds": options.faults}
    limits = {"readings": -(-options.readings // of), "within_s": options.seconds / of}
    outcome = asyncio.run(run(way, seed=options.seed, units=units, **limits, **plan))
    print(outcome, flush=True)
    for sentence in (*outcome.wrong[:20], *outcome.bugs[:20], *map(repr, outcome.nonsense[:20])):
        print(f"  {sentence}", flush=True)
    return outcome


def _sum(outcomes: list[Outcome], seed: int) -> str:
    codes = sorted({code for outcome in outcomes for code in outcome.codes})
    return (
        f"{'clean' if all(outcome.is_clean for outcome in outcomes) else 'BROKEN'}: seed {seed}, "
        f"{sum(outcome.readings for outcome in outcomes)} readings, "
        f"{sum(outcome.checked for outcome in outcomes)} values checked, "
        f"{sum(len(outcome.wrong) for outcome in outcomes)} wrong values, "
        f"{sum(sum(outcome.faults.values()) for outcome in outcomes)} faults, "
        f"{sum(len(outcome.dead) for outcome in outcomes)} dead tasks, function codes {' '.join(codes)}"
    )


if __name__ == "__main__":
    sys.exit(main())
