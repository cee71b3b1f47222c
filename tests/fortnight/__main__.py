"""``python -m tests.fortnight``: play it, check its report against what was served, and leave the store."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import anyio

from tests.fortnight.checking import check, expected_cost
from tests.fortnight.nights import play


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fortnight", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("fortnight"), help="where its store goes")
    parser.add_argument("--rows", type=int, default=40, help="in the first night's manifest")
    parser.add_argument("--more", type=int, default=25, help="rows more every night")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=0, help="where the gateway listens; 0: anywhere")
    options = parser.parse_args()
    if options.folder.exists():
        sys.exit(f"{options.folder} is there already; name another --folder")
    began_s = time.monotonic()
    played = anyio.run(lambda: play(**vars(options)))
    for day, summaries in played.summaries.items():
        for one in summaries:
            tally = one.tally
            print(
                f"{day}  {one.state:<8} {tally.ok:4} ok {tally.failed:3} failed {tally.skipped:4} skipped "
                f"{tally.not_attempted:3} not attempted  {tally.attempts:4} attempts  {dict(tally.errors)}"
            )
    served = sum(counts.tokens for counts in played.gateway.counts.values())
    print(f"served {served:,} tokens for USD {expected_cost(played)}; {time.monotonic() - began_s:.1f} s")
    print(f"the store is in {played.out}; look at it with: mediabatch report --out {played.out}")
    wrong = check(played)
    print("\n".join(wrong) or "the report agrees with what was served, to the last token and digit")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
