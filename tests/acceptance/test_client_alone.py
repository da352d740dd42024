"""The wheel without any extra, in an environment of its own: what a producer installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, require
from tests.fake_server import fake_service
from tests.fake_service import FakeService

PROGRAM = """
import sys
from glm4v_client import AsyncEmbeddingClient, EmbeddingClient
assert not {"torch", "numpy", "typer"} & sys.modules.keys(), sys.modules.keys()

import importlib.util
assert not any(map(importlib.util.find_spec, ("torch", "numpy", "sqlalchemy", "celery", "fastapi")))

from pathlib import Path
Path("cat.jpg").write_bytes(b"meow")

with EmbeddingClient() as client:
    job = client.submit(["s3://media/dog.jpg", "cat.jpg"])
    for progress in job.watch():
        print(progress.state.value, progress.counts.succeeded)
    print([item.embedding().grid_thw for item in job.items()], job.download("tokens").written)

import asyncio

async def main():
    async with AsyncEmbeddingClient() as client:
        job = await client.submit(["s3://media/dog.jpg"])
        print((await job.wait(timeout=60)).state.value)

asyncio.run(main())
"""

pytestmark = pytest.mark.slow


def uv() -> str:
    """Beside this interpreter, or on the PATH."""
    found = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    require(found is not None, "uv is not installed: uv builds the wheel and its environment")
    assert found is not None
    return found


def run(*command: str | Path, **arguments: object) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, **arguments)  # type: ignore[call-overload]
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the build's own folders do not lie in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = run("git", "ls-files", cwd=REPOSITORY).stdout.splitlines()
    for name in tracked:
        if (REPOSITORY / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / "tree" / name)
    run(uv(), "build", "--wheel", "--out-dir", folder, folder / "tree")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that has the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("environment")
    run(uv(), "venv", "--python", sys.executable, folder)
    run(uv(), "pip", "install", "--python", folder / "bin" / "python", wheel)
    return folder / "bin" / "python"


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


def test_the_wheel_alone_talks_to_a_service_without_torch_on_the_machine(
    python: Path, service: FakeService, tmp_path: Path
):
    environment = {"GLM4V_URL": service.url, "PATH": "/usr/bin:/bin"}

    result = run(python, "-I", "-c", PROGRAM, cwd=tmp_path, env=environment)

    assert result.stdout.splitlines() == [
        "running 0",
        "finished 2",
        "[(1, 4, 4), (1, 4, 4)] 2",
        "finished",
    ]
    assert list(service.uploads.values()) == [b"meow"]


def test_its_import_takes_less_than_three_tenths_of_a_second(python: Path):
    program = (
        "import time; begun = time.process_time(); from glm4v_client import EmbeddingClient;"
        " print(time.process_time() - begun)"
    )
    # The first writes the byte code; the quickest counts, since a busy machine only ever adds to it.
    assert min(float(run(python, "-I", "-c", program).stdout) for _ in range(5)) < 0.3


def test_its_command_explains_itself_without_any_extra(python: Path):
    result = subprocess.run(
        [python.parent / "glm4v", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, "Traceback" in result.stderr) == (0, False), result.stderr
