"""`mpqdeploy.load` on compiled bundles: right, strict, and without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mpqdeploy
from mpqdeploy.core import BundleError, ModelError, Preprocessing, TargetError
from mpqdeploy.export.bundle import write_bundle
from mpqdeploy.export.manifest import Manifest, Requirements, TensorInfo
from mpqdeploy.export.qonnx_executor import qonnx_logits
from mpqdeploy.export.standard import to_standard_onnx
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.target import load_target
from tests.export.networks import digits_like

PREPROCESSING = Preprocessing(scale=255.0, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
FORBIDDEN = ("torch", "brevitas", "onnx", "qonnx", "onnxruntime", "sklearn", "sqlalchemy")


def _requirements() -> Requirements:
    host = load_target("host")
    return Requirements(target="host", processor=host.processor, features=host.required)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("load")
    qonnx, standard, library = work / "q.onnx", work / "s.onnx", work / "model.so"
    digits_like(qonnx)
    to_standard_onnx(qonnx, standard)
    compile_qonnx(qonnx, load_target("host"), library)
    entry = TensorInfo(name="input", shape=(1, 3, 8, 8), layout="NCHW", preprocessing=PREPROCESSING)
    manifest = Manifest(
        name="tiny",
        inputs=(entry,),
        outputs=(TensorInfo(name="logits", shape=(1, 5), layout="NC", classes=tuple("abcde")),),
        requirements=_requirements(),
        versions={},
    )
    write_bundle(work / "bundle", manifest, qonnx=qonnx, standard=standard, library=library)
    return work / "bundle"


def _pixels(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)


def test_logits_are_those_of_the_qonnx_file(folder: Path) -> None:
    model = mpqdeploy.load(folder)
    x = model.preprocess(_pixels(5))
    logits = model(x)
    assert logits.shape == (5, 5)
    assert logits.dtype == np.float32
    expected = qonnx_logits(folder / "model.qonnx.onnx", x)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
    assert model.classes == ("a", "b", "c", "d", "e")


def test_run_by_names_and_empty_batch(folder: Path) -> None:
    model = mpqdeploy.load(str(folder))
    x = model.preprocess(_pixels(2))
    np.testing.assert_array_equal(model.run({"input": x})["logits"], model(x))
    assert model(x[:0]).shape == (0, 5)


def test_preprocess_takes_both_layouts_and_single_images(folder: Path) -> None:
    model = mpqdeploy.load(folder)
    pixels = _pixels(2)
    expected = PREPROCESSING.apply(pixels)
    np.testing.assert_array_equal(model.preprocess(pixels), expected)
    np.testing.assert_array_equal(model.preprocess(pixels.transpose(0, 2, 3, 1)), expected)
    np.testing.assert_array_equal(model.preprocess(pixels[0]), expected[:1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3, 8, 8), np.uint8), "takes float32, not uint8"),
        (np.zeros((3, 8, 8), np.float32), r"shape \[3, 8, 8\], the model takes \[N, 3, 8, 8\]"),
        (np.zeros((1, 3, 9, 8), np.float32), r"shape \[1, 3, 9, 8\]"),
    ],
)
def test_wrong_inputs_are_one_clear_line(folder: Path, array: np.ndarray, message: str) -> None:
    model = mpqdeploy.load(folder)
    with pytest.raises(ModelError, match=message):
        model(array)


def test_wrong_names_and_pixels(folder: Path) -> None:
    model = mpqdeploy.load(folder)
    with pytest.raises(ModelError, match="no input 'x'"):
        model.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(ModelError, match="'input' is missing"):
        model.run({})
    with pytest.raises(ModelError, match="uint8 pixels, not float64"):
        model.preprocess(np.zeros((1, 3, 8, 8)))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"the model takes \[N, 3, 8, 8\] or \[N, 8, 8, 3\]"):
        model.preprocess(np.zeros((1, 3, 9, 8), np.uint8))


def test_tampered_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    mpqdeploy.load(copy)
    with (copy / "model.so").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\xff\x00\xff")
    with pytest.raises(BundleError, match=r"model\.so differs"):
        mpqdeploy.load(copy)


@pytest.mark.parametrize(
    ("requirements", "message"),
    [
        ({"features": ("avx2", "amx_imaginary")}, "CPU feature amx_imaginary"),
        ({"processor": "riscv64"}, "needs a riscv64 processor"),
    ],
)
def test_another_machine_s_bundle_is_refused(
    folder: Path, tmp_path: Path, requirements: dict[str, object], message: str
) -> None:
    model = mpqdeploy.load(folder)
    other = replace(model.manifest, requirements=replace(_requirements(), **requirements))
    paths = {name: folder / file for name, file in _FILES.items()}
    write_bundle(tmp_path / "other", other, **paths)
    with pytest.raises(TargetError, match=message):
        mpqdeploy.load(tmp_path / "other")


_NO_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "__pycache__")
_FILES = {"qonnx": "model.qonnx.onnx", "standard": "model.onnx", "library": "model.so"}

_ISOLATED = """
    import sys

    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {forbidden!r}:
                raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

    sys.meta_path.insert(0, Block())
    import numpy as np
    import mpqdeploy

    lean = {{"torch", "tvm", "onnx", "numpy"}} & set(sys.modules) - {{"numpy"}}
    assert not lean, lean
    model = mpqdeploy.load(sys.argv[1])
    pixels = np.arange(3 * 64, dtype=np.uint8).reshape(1, 3, 8, 8)
    np.save(sys.argv[2], model(model.preprocess(pixels)))
    loaded = {{name.partition(".")[0] for name in sys.modules}} & set({forbidden!r})
    assert not loaded, loaded
"""


def _script() -> str:
    return textwrap.dedent(_ISOLATED.format(forbidden=FORBIDDEN))


def _check_output(folder: Path, path: Path) -> None:
    model = mpqdeploy.load(folder)
    pixels = np.arange(3 * 64, dtype=np.uint8).reshape(1, 3, 8, 8)
    np.testing.assert_array_equal(np.load(path), model(model.preprocess(pixels)))


def test_runs_with_torch_and_onnx_blocked(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "logits.npy"
    command = [sys.executable, "-c", _script(), str(folder), str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    _check_output(folder, output)


@pytest.mark.slow
def test_runs_in_an_environment_without_torch(folder: Path, tmp_path: Path) -> None:
    """A fresh environment with the package's base dependencies alone."""
    root = tmp_path / "source"  # pip would leave its build folder in the checkout
    shutil.copytree(Path(__file__).parents[1], root, ignore=_NO_SOURCES)
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "-c", root / "constraints.txt", root]
    installed = subprocess.run(
        [str(part) for part in install], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"no package index is reachable: {installed.stderr.strip()[-200:]}")
    assert subprocess.run([python, "-c", "import torch"], check=False).returncode != 0
    output = tmp_path / "logits.npy"
    command = [str(python), "-c", _script(), str(folder), str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    _check_output(folder, output)
