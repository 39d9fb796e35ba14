"""A search on disk: its state after the last epoch, and one finished result per demand."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpqdeploy.core import CheckpointError, ConfigError
from mpqdeploy.core.files import read_json, replacing, write_json
from mpqdeploy.search.engine import Problem, Result, save_network


class SearchFolder:
    """`search.json` says whose search this is, `state.pt` where it stands, `best.json` the best
    policy so far, `result-<demand>.json` and `weights-<demand>.pt` what was found for one set of
    budgets and tables. Every file is whole or absent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Make the folder this search's. Raises `ConfigError` where it is another's."""
        file = self.path / "search.json"
        if not file.exists():
            write_json(file, dict(identity))
            return
        there = read_json(file)
        for key, value in identity.items():
            if there.get(key) != value:
                raise ConfigError(
                    f"{self.path}: this folder holds a search with another {key!r}.",
                    hint="Use another folder, or remove this one to search anew.",
                )

    def finished(self, problem: Problem) -> Result | None:
        """The result of this very demand, if it was found before."""
        file = self.path / f"result-{problem.demand()}.json"
        return Result.from_json(read_json(file), self.path) if file.exists() else None

    def rounds(self) -> int:
        """How many demands have a result."""
        return len(list(self.path.glob("result-*.json")))

    def weights(self, problem: Problem) -> Path:
        return self.path / f"weights-{problem.demand()}.pt"

    def finish(self, problem: Problem, result: Result, net: nn.Module) -> Result:
        """Write the result; its file comes last, so that it never names weights that lack."""
        save_network(net, result.weights)
        file = self.path / f"result-{problem.demand()}.json"
        write_json(file, result.to_json())
        return Result.from_json(read_json(file), self.path)

    def save_best(self, content: Mapping[str, Any]) -> None:
        write_json(self.path / "best.json", dict(content))

    def save_state(self, state: Mapping[str, Any]) -> None:
        with replacing(self.path / "state.pt") as temporary:
            torch.save(dict(state), temporary)

    def load_state(self) -> dict[str, Any] | None:
        """The last state, None where there is none. Raises `CheckpointError`."""
        file = self.path / "state.pt"
        if not file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"{file}: cannot be read as the state of a search ({type(error).__name__}).",
                hint="Remove the folder: the search then starts over.",
            ) from error
        return state
