"""Submits two rendered photos and a clip to a running service, waits, loads the results and prints them; `make smoke`.

GLM4V_API_KEY=... python examples/smoke.py [--url URL] [--timeout SECONDS] [FILE ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from render_samples import render_samples
from rich.console import Console
from rich.table import Table

from glm4v_client import ClientError, EmbeddingClient, ItemHandle

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--url", help="the service; GLM4V_URL, or the local one", default=None)
parser.add_argument("--timeout", type=float, default=600.0, help="seconds until the job must have ended")
parser.add_argument("media", nargs="*", type=Path, help="photos and clips; rendered samples by default")


def embed(client: EmbeddingClient, media: list[Path], timeout: float) -> Table:
    """Raises ClientError unless every item has an embedding that can be loaded."""
    job = client.submit(media, labels={"made-by": "make smoke"})
    job.wait(timeout)
    job.raise_for_failures()
    table = Table("source", "kind", "grid_thw", "tokens", "dtype", "mean", "timestamps", title=f"job {job.id}")
    for path, item in zip(media, job.items(), strict=True):
        table.add_row(path.name, *describe(item))
    return table


def describe(item: ItemHandle) -> list[str]:
    tokens = item.embedding()
    values = tokens.to_numpy()
    assert values.shape == tokens.shape, (values.shape, tokens.shape)
    times = f"{tokens.timestamps[0]:g} to {tokens.timestamps[-1]:g} s" if tokens.timestamps else ""
    grid = " x ".join(map(str, tokens.grid_thw))
    return [item.kind.value, grid, " x ".join(map(str, tokens.shape)), tokens.dtype, f"{values.mean():.3f}", times]


def main() -> int:
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddingClient(arguments.url) as client:
        table = embed(client, arguments.media or render_samples(Path(folder)), arguments.timeout)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ClientError as error:
        sys.exit(f"smoke: {error}")
