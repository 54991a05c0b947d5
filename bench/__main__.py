"""`python -m bench`: run the cases and print their figures."""

import argparse
import asyncio
import json

from bench import modbus_to_mqtt


def main() -> None:
    """Run every case; `--json` prints the figures as one object."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each side of a round is measured")
    parser.add_argument("--rounds", type=int, default=3, help="how often both sides are measured, in turn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = {"modbus_to_mqtt": asyncio.run(modbus_to_mqtt.run(options.seconds, options.rounds))}
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(modbus_to_mqtt.__doc__)
    for name, value in figures["modbus_to_mqtt"].items():
        print(f"  {name:44} {value}")


if __name__ == "__main__":
    main()
