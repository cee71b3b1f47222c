"""Look at what the main command left in the store: every example row once, costs that add up, one failure."""

import sys
from decimal import Decimal
from pathlib import Path

import polars as pl

out = Path(sys.argv[1])
run_id = max(path.name for path in (out / "runs").iterdir())
results = pl.read_parquet(out / "results" / "*" / f"run={run_id}" / "*.parquet")
costs = pl.read_parquet(out / "costs" / "*" / f"run={run_id}" / "*.parquet")
rows = pl.read_csv("data/manifests/example.csv").height

assert sorted(results["row"]) == list(range(1, rows + 1)), "every manifest row once"
assert set(results["endpoint"]) == {"embedded"}, "a rehearsal says so"
failed = results.filter(pl.col("status") == "failed")
assert failed["item_id"].to_list() == ["broken-upload"], failed
assert costs["cost"].sum() == results["cost"].sum() > Decimal(0), "charges add up to the rows' costs"
assert costs["tokens"].sum() == results["total_tokens"].sum(), "counts add up to the totals"
assert {"text", "image", "audio", "video", "image+video"} <= set(costs["modality"]), (
    "every modality is on the bill"
)
print(f"{rows} rows, {len(costs)} charges, {results['cost'].sum()} in all: as it should be")
