"""A run of three steps for the test that kills it: `python -m tests.run_folder_script FOLDER`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from mpqdeploy.run_folder import SCRATCH, RunFolder


def slow(folder: Path) -> dict[str, Any]:
    """Counts to 5 on disk."""
    counter = folder / SCRATCH / "counter"
    counter.parent.mkdir(exist_ok=True)
    for number in range(int(counter.read_text()) if counter.exists() else 0, 5):
        print("counted", number, flush=True)
        time.sleep(0.05)
        counter.write_text(str(number + 1))
    (folder / "result.txt").write_text("five")
    return {"total": 5}


def main(path: Path) -> None:
    with RunFolder(path) as run:
        run.claim({"seed": 1})
        first = run.step("first", {"seed": 1}, lambda folder: {"value": 1})
        second = run.step("second", {"first": first}, slow)
        third = run.step("third", {"second": second}, lambda folder: [second.result["total"]])
        print("end", third.result, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
