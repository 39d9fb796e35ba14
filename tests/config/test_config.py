from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mpqdeploy.config import Config
from mpqdeploy.core import ConfigError, Precision, Protocol

TEXT = """
model: {name: resnet20, pins: {conv1: 8/8}}
data: {name: cifar10, dir: some/where, limit: {train: 500}}
target: {name: host, threads: 2}
precisions: ["4/4", "8/8", 4/8]
budgets: [{metric: latency, limit: "75%"}, {metric: bytes, limit: 64KiB}]
train: {epochs: 3, lr: 1e-2}
search: {engine: bp-nas, mode: factorized, epochs: 2}
finetune: {epochs: 1}
seed: 5
run_dir: runs/test
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT)
    return path


def test_a_file_becomes_what_the_floors_below_take(file: Path) -> None:
    config = Config.load(file, ["train.momentum=0.5", "measure.samples=9"])
    assert config.train.recipe().lr == 0.01
    assert config.train.recipe().momentum == 0.5
    assert config.finetune.recipe().lr == 0.02
    assert config.data.spec().limit == {"train": 500}
    assert config.data.spec().dir == Path("some/where")
    assert config.model.pinned() == {"conv1": Precision(weight_bits=8, act_bits=8)}
    assert config.model.spec(10, (3, 32, 32)).name == "resnet20"
    assert [str(p) for p in config.candidates() or ()] == ["8/8", "4/8", "4/4"]
    assert config.search.settings().mode == "factorized"
    assert config.measure.protocol(2) == Protocol(samples=9, threads=2)
    assert [b.parsed().relative for b in config.budgets] == [True, False]


def test_sections_offer_every_setting_of_what_they_become() -> None:
    from mpqdeploy.data import DATASETS, DataSpec
    from mpqdeploy.nn import MODELS
    from mpqdeploy.nn.training import Recipe
    from mpqdeploy.search.settings import BpNasSettings

    config = Config.read({"model": {"name": "resnet20"}, "data": {"name": "digits"}}, "test")
    assert set(type(config.train).model_fields) == set(Recipe.__dataclass_fields__)
    assert set(type(config.data).model_fields) == set(DataSpec.__dataclass_fields__)
    assert config.data.spec() == DataSpec(name="digits")
    assert set(BpNasSettings.__dataclass_fields__) < set(type(config.search).model_fields)
    assert config.search.settings() == BpNasSettings()
    for name in MODELS:
        Config.read({"model": {"name": name}, "data": {"name": "digits"}}, "test")
    for name in DATASETS:
        Config.read({"model": {"name": "resnet20"}, "data": {"name": name}}, "test")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.lr=1", "unknown key trian. Did you mean train[?] Keys of the top level: model"),
        ("train.ler=1", "unknown key train.ler. Did you mean lr[?] Keys of train: epochs"),
        ("data.limit.tset=1", "unknown key data.limit.tset. Did you mean test"),
        ("budgets.1.limt=1", "unknown key budgets.1.limt. Did you mean limit"),
        ("data.name=cifar-10", "data.name: 'cifar-10' .*Did you mean cifar10"),
        ("model.name=resnet-20", "model.name: 'resnet-20' .*Did you mean resnet20"),
        ("train.epochs=many", "train.epochs: 'many' is not allowed. Allowed: a valid integer"),
        ("train.epochs=1.5", "train.epochs: 1.5 is not allowed"),
        ("train.lr=-1", "train.lr: -1 is not allowed. Allowed: greater than 0"),
        ("train.lr=.nan", "train.lr: nan is not allowed. Allowed: a finite number"),
        ("train=3", "train: 3 is not allowed. Allowed: a mapping of epochs, batch_size"),
        ("precisions=[8/8, 9/1]", "precisions.1: weight bit width 9 is out of range"),
        ("model.pins.conv1=4", "model.pins.conv1: 4 is not allowed. Allowed: a valid string"),
        ("budgets.0.limit=3KiB", "budgets.0: '3KiB' is not a limit on latency"),
        ("budgets.0.metric=speed", "'latency', 'bytes' or 'bops'"),
        ("budgets=4", "budgets: 4 is not allowed. Allowed: a list"),
    ],
)
def test_bad_keys_and_values_are_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^--set: .*{message}") as caught:
        Config.load(file, [override])
    assert "\n" not in str(caught.value)


def test_the_file_is_named_where_the_file_is_wrong(file: Path) -> None:
    file.write_text(TEXT.replace("epochs: 3", "epoch: 3").replace("seed", "sed"))
    with pytest.raises(ConfigError, match=r"c\.yaml: unknown key train\.epoch\. \(1 more"):
        Config.load(file, ["train.lr=0.1"])
    file.write_text("data: {name: digits}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: model is missing"):
        Config.load(file)


def test_the_snapshot_holds_all_but_where_results_go(file: Path) -> None:
    first, second = Config.load(file), Config.load(file, ["run_dir=elsewhere"])
    assert first.snapshot() == second.snapshot()
    assert first.snapshot() != Config.load(file, ["seed=6"]).snapshot()
    again = Config.read(first.snapshot(), "snapshot", [])
    assert again.snapshot() == first.snapshot()
    assert first.part("seed", "target") == {"seed": 5, "target": {"name": "host", "threads": 2}}


def test_reading_a_configuration_loads_nothing_heavy(file: Path) -> None:
    code = (
        "import sys, pathlib; from mpqdeploy.config import Config;"
        "Config.load(pathlib.Path(sys.argv[1]));"
        "print({'torch', 'tvm', 'sklearn', 'onnx'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"
