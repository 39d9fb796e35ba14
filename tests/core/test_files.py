from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpqdeploy.core.files import read_json, replacing, sha256, write_json, write_text


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "data.json"
    write_json(path, {"b": [1, 2.5], "a": "ü"})
    assert read_json(path) == {"b": [1, 2.5], "a": "ü"}
    assert list(json.loads(path.read_text())) == ["b", "a"]  # in the order given
    assert [entry.name for entry in path.parent.iterdir()] == ["data.json"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "model.so"
    write_text(path, "old")

    def write_half() -> None:
        with replacing(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".so"  # linkers and onnx look at it
            temporary.write_text("half of the n")
            assert path.read_text() == "old"
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.so"]


def test_a_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "new.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from mpqdeploy.core.files import replacing
with replacing(Path(sys.argv[1])) as temporary, temporary.open("w") as stream:
    while True:
        stream.write("new" * 1000)
        stream.flush()
        print("wrote", flush=True)
"""


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_json(path, {"state": "old"})
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "wrote\n"  # in the middle of it
        process.kill()
        process.stdout.read()
        assert process.wait(10) == -signal.SIGKILL
    assert read_json(path) == {"state": "old"}
    left = [entry.name for entry in tmp_path.iterdir() if entry != path]
    assert len(left) == 1
    assert left[0].startswith(".data.json.")  # hidden: no reader takes it for a file of the run
    write_json(path, {"state": "new"})
    assert read_json(path) == {"state": "new"}


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "data").write_bytes(data)
    assert sha256(tmp_path / "data") == hashlib.sha256(data).hexdigest()
