"""What a producer's program pays for the import."""

from __future__ import annotations

import json
import subprocess
import sys

#: Seconds of a processor; a laptop takes half of it, and what would break it (torch, numpy, the service) takes seconds.
MOST_SECONDS = 0.3

#: Fresh interpreters; the quickest counts, since a busy machine only ever adds to what an import costs.
TIMES = 5


def loaded_by(statement: str) -> set[str]:
    program = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(run(program)))


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_client_is_imported_without_torch_numpy_asyncio_or_the_service():
    loaded = loaded_by("from glm4v_client import EmbeddingClient")
    assert "glm4v_client.client" in loaded
    assert not loaded & {"torch", "numpy", "asyncio", "typer", "worker", "api", "glm4v_core", "sqlalchemy", "celery"}


def test_a_record_is_imported_without_the_http_library():
    loaded = loaded_by("from glm4v_client import ItemRequest")
    assert "httpx" not in loaded


def test_the_import_takes_less_than_three_tenths_of_a_second():
    program = (
        "import time; begun = time.process_time()\n"
        "from glm4v_client import EmbeddingClient\n"
        "print(time.process_time() - begun)"
    )
    assert min(float(run(program)) for _ in range(TIMES)) < MOST_SECONDS
