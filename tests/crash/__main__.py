"""`python -m tests.crash`: thousands of states after a cut of the power, with a seed; `make crash-test`."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.crash.replay import crash_test

STATES_A_RECORDING = 1000
LINES = 3000


def main() -> int:
    """Run, print a line for each recording and one for all; 1 if a promise was broken."""
    options = _parser().parse_args()
    states, checked, broken = 0, 0, 0
    for seed in range(options.seed, options.seed + -(-options.states // STATES_A_RECORDING)):
        with tempfile.TemporaryDirectory(prefix="crash-test-") as folder:
            verdict = crash_test(seed, min(STATES_A_RECORDING, options.states - states), Path(folder), lines=LINES)
        print(f"seed {seed}: {verdict}", *verdict.broken[:20], sep="\n  ", flush=True)
        states, checked, broken = states + verdict.states, checked + verdict.checked, broken + len(verdict.broken)
    word = "BROKEN" if broken else "clean"
    found = f"{states} states, {checked} committed batches looked for, {broken} states broken"
    print(f"{word}: seed {options.seed}, {found}")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="default: one that is printed")
    parser.add_argument("--states", type=int, default=5000, help="how many states to open")
    return parser


if __name__ == "__main__":
    sys.exit(main())
