"""`python -m bench`: run the cases and print their figures."""

import argparse
import asyncio
import json

from bench import full_request, modbus_to_mqtt, opcua_to_mqtt, outage

CASES = {
    "full_request": full_request,
    "modbus_to_mqtt": modbus_to_mqtt,
    "opcua_to_mqtt": opcua_to_mqtt,
    "outage": outage,
}


def main() -> None:
    """Run every case, or those that are named; `--json` prints the figures as one object."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; default: all")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each side of a round is measured")
    parser.add_argument("--rounds", type=int, default=3, help="how often both sides are measured, in turn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"there is no case {', '.join(sorted(unknown))}; the cases are {', '.join(CASES)}")
    figures = {}
    for name in options.cases or CASES:
        figures[name] = asyncio.run(CASES[name].run(options.seconds, options.rounds))
        if not options.json:
            print(CASES[name].__doc__)
            for what, value in figures[name].items():
                print(f"  {what:62} {value}", flush=True)
    if options.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
