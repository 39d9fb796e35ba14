from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.config import Config
from mpqdeploy.core import ConfigError
from mpqdeploy.init import write_config


@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100", "imagefolder"])
def test_what_it_writes_is_a_configuration(tmp_path: Path, data: str) -> None:
    path = tmp_path / "c.yaml"
    write_config(path, data=data)
    config = Config.load(path)
    assert config.data.name == data
    assert config.snapshot() == Config.read(config.snapshot(), "snapshot").snapshot()
    keys = [line.split(":")[0] for line in path.read_text().splitlines()]
    assert set(Config.model_fields) <= set(keys)


def test_it_replaces_nothing_and_names_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(ConfigError, match="Did you mean digits"):
        write_config(path, data="digit")
    with pytest.raises(ConfigError, match="Did you mean resnet18"):
        write_config(path, data="digits", model="resnet-18")
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        write_config(path, data="digits")
    assert path.read_text() == "mine"
