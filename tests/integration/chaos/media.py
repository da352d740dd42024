"""A mixed lot of references, and what one undisturbed process makes of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.clips import write_numbered_clip
from tests.cluster import HASTE, MODEL, settings_from
from tests.encoders import DEADLY_GREY, SimulatedEncoder
from tests.faults import MediaServer
from tests.integration.chaos.invariants import Result, read_results
from tests.servers import S3
from worker.database import create_engine, migrate
from worker.records import NewJob, Source
from worker.runtime import Runtime

BUCKET = "chaos-sources"


@dataclass(frozen=True, kw_only=True)
class Lot:
    """References of every kind, most of them good."""

    sources: list[str]
    server: MediaServer
    folder: Path


def make_lot(count: int, *, folder: Path, s3: S3) -> Lot:
    """Pictures and clips, some of them the same, by HTTP, from a folder and from S3; some are bad."""
    files: dict[str, bytes] = {}
    server = MediaServer(files)
    client = s3.client()
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    sources = []
    for number in range(count):
        name, data = _media(number, folder)
        match number % 20:
            case 3:
                (folder / name).write_bytes(data)
                sources.append((folder / name).as_uri())
            case 7:
                client.put_object(BUCKET, name, io.BytesIO(data), len(data))
                sources.append(f"s3://{BUCKET}/{name}")
            case 11:
                sources.append(f"{server.url}/missing-{number}.png")
            case _:
                files[f"/{name}"] = data
                sources.append(f"{server.url}/{name}")
    return Lot(sources=sources, server=server, folder=folder)


def run_in_one_process(sources: Sequence[str], folder: Path, **environment: str) -> dict[str, Result]:
    """What becomes of references without broker, other workers or faults: the measure for every scenario."""
    database_url = f"sqlite:///{folder}/items.db"
    migrate(database_url)
    settings = settings_from(
        {**HASTE, "GLM4V_DATABASE_URL": database_url, "GLM4V_STORE_URL": f"file://{folder}/objects", **environment}
    )
    runtime = Runtime(settings, load=lambda _: SimulatedEncoder())
    runtime.start()
    job, _ = runtime.repository.create_job(
        NewJob(model=MODEL), (Source(source=source) for source in sources), close=True
    )
    runtime.process([item.id for item in runtime.repository.list_items(job.id, limit=len(sources))])
    runtime.stop(drain_seconds=0)
    engine = create_engine(database_url)
    try:
        return read_results(engine, job.id)
    finally:
        engine.dispose()


def deadly_picture() -> bytes:
    """Kills a deadly worker."""
    return _png(Image.new("RGB", (56, 56), (DEADLY_GREY,) * 3))


def _media(number: int, folder: Path) -> tuple[str, bytes]:
    match number % 20:
        case 5:
            clip = write_numbered_clip(folder / f"clip-{number}.mp4", 4 + number % 9, width=96, height=64)
            return clip.name, clip.read_bytes()
        case 9:
            # The bytes of the one before it, under another name.
            return f"again-{number}.png", _noise(number - 1)
        case 13:
            return f"cut-{number}.png", _noise(number)[:200]
        case 17:
            return f"text-{number}.jpg", b"this is no picture\n" * 20
        case _:
            return f"picture-{number}.png", _noise(number)


def _noise(seed: int) -> bytes:
    return _png(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (56, 84, 3), dtype=np.uint8)))


def _png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
