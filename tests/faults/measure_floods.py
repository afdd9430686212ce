"""Syncs by turns without a flood, beside one and under one, as `scripts/flood` runs them."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median

import trio

from ethsync.commands.child import open_serving_process
from ethsync.ui.machine import read_machine, utc_now
from tests.faults.flooding import Measured, Target, measure_sync

STATE = "accounts=1000000,contracts=50000,slots=1400000,codes=50000,seed=1"


async def run(state: str, runs: int) -> dict[str, object]:
    """Measure; every sync is printed when it is over."""
    measured: dict[Target, list[Measured]] = {target: [] for target in Target}
    with tempfile.TemporaryDirectory(prefix="ethsync-flood-") as name:
        place = Path(name)
        async with open_serving_process("--synthetic", state, "--datadir", str(place / "served")) as server:
            for number in range(runs):
                for target in Target:
                    with tempfile.TemporaryDirectory(dir=place) as directory:
                        found = await measure_sync(server, Path(directory) / "run", target)
                    measured[target].append(found)
                    print(json.dumps({"run": number, "flood to": target.value, **asdict(found)}), flush=True)
    speed = {target: median(each.leaves_per_second for each in measured[target]) for target in Target}
    return {
        "date": utc_now(),
        "machine": asdict(read_machine()),
        "speed beside a flood": speed[Target.A_BYSTANDER] / speed[Target.NOBODY],
        "speed under one, to beside one": speed[Target.US] / speed[Target.A_BYSTANDER],
        "lag p99 in ms": {each.value: median(one.lag_p99_ms for one in measured[each]) for each in Target},
        "CPU seconds": {each.value: median(one.cpu_seconds for one in measured[each]) for each in Target},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synthetic", default=STATE)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(json.dumps(trio.run(run, arguments.synthetic, arguments.runs), indent=1))
