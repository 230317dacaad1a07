"""Do the verdicts hang on their seeds? Every chapter once more from other seeds, and what came out of it as a record.

    python book/_ext/replicate.py                  three other sets of seeds
    python book/_ext/replicate.py 4000 5000        those that are counted from here

All that a measurement draws moves: first weights, orders, masks, the seeds that tune, the splits of chapter 1. The data
sets stay, and so do the draws on which an equality is checked.
`book/replications.json` keeps the verdicts, and the claims page tells what they are.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import pathlib
import sys

import execute
import ledger

SETS = (1000, 2000, 3000)


def verdicts(root: pathlib.Path, first: int) -> dict[str, str] | None:
    """{claim: verdict} of the chapters with seeds that are counted from `first`; None when a cell failed."""
    os.environ["TRICKS_FIRST_SEED"] = str(first)
    if execute.execute(root):
        return None
    found = ledger.measured(execute.executed(root))
    return {name: verdict["verdict"] for name, verdict in found.items() if verdict.get("verdict")}


def replicate(root: pathlib.Path, sets) -> int:
    """Run the chapters with each set of seeds, the book's own first, and write the record; 1 when a cell failed."""
    sets, found = [0, *dict.fromkeys(sets)], []
    before = os.environ.pop("TRICKS_FIRST_SEED", None)
    try:
        for first in sets:
            print(f"Seeds from {first}:", flush=True)
            found.append(verdicts(root, first))
            if found[-1] is None:
                return 1
    finally:
        os.environ.pop("TRICKS_FIRST_SEED")
        execute.execute(root)  # the published chapters again, from the cache
        if before is not None:
            os.environ["TRICKS_FIRST_SEED"] = before
    table = {name: [verdict.get(name, "") for verdict in found] for name in sorted(set().union(*found))}
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    about = {"date": today, "scale": execute.scale(), "device": execute.device(), "versions": execute.versions()}
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
    head = json.dumps(about | {"sets": sets}, indent=2).removesuffix("\n}")
    path = pathlib.Path(root) / ledger.RECORD
    half = path.with_suffix(".part")
    half.write_text(f'{head},\n  "verdicts": {{\n{lines}\n  }}\n}}\n', encoding="utf-8")
    os.replace(half, path)
    moved = {name: row for name, row in table.items() if len(set(row)) > 1}
    print(f"{len(table) - len(moved)} of {len(table)} verdicts are the same with all {len(sets)} sets of seeds.")
    for name, row in moved.items():
        print(f"  {name}: {', '.join(row)}")
    return 0


def first_seed(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give whole numbers from 1 to 1000000, such as 4000")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    here = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", type=first_seed, default=SETS, help="the first seeds, such as 1000 2000")
    parser.add_argument("--root", type=pathlib.Path, default=here, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        return replicate(given.root, given.sets)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nStopped. What has run is kept, and the next run goes on from there.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
