"""Fuzzing: `python -m benchmarks.fuzz --inputs 1000000` throws broken entries at the decoder;
`--api SECONDS` throws requests at a gateway, made from its own OpenAPI document (extra fuzz)."""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.fuzz import decoder


def main() -> int:
    """Exit status 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="entries for the decoder")
    parser.add_argument("--api", type=float, default=0, metavar="SECONDS", help="requests, too")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    try:
        found = decoder.fuzz(given.inputs, given.seed, print)
    except decoder.Wrong as wrong:
        print(f"decoder: {wrong}")
        return 1
    took = time.monotonic() - began
    shown = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
    print(f"decoder: {given.inputs} entries in {took:.0f} s, none an error: {shown}")
    if given.api:
        from benchmarks.fuzz import api

        return api.main(given.api, given.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
