"""The decoding process: files to patches, one after the other, until its worker is gone."""

from __future__ import annotations

import ctypes
import json
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from glm4v_client.states import MediaKind
from glm4v_core import media_errors
from glm4v_core.image_reading import read_image
from glm4v_core.patches import Patches, patchify
from glm4v_core.processing import Glm4vImageProcessor, Glm4vVideoProcessor, VideoPlan
from glm4v_core.video_reading import open_video
from glm4v_core.video_source import VideoSource
from worker import errors, wire

_PR_SET_PDEATHSIG = 1

#: Characters. The smallest chunk, 64 patches, has 37,632 bytes, and a reason must be shorter.
_LONGEST_REASON = 1000

#: glm4v_core's reasons, the more special before the more general, and ours.
_REASONS: tuple[tuple[type[Exception], type[errors.EmbedError]], ...] = (
    (media_errors.EmptyMedia, errors.EmptyFile),
    (media_errors.UnsupportedMedia, errors.UnsupportedMedia),
    (media_errors.NoVideoStream, errors.NoVideoStream),
    (media_errors.TooManyPixels, errors.TooManyPixels),
    (media_errors.TooManyFrames, errors.TooManyFrames),
    (media_errors.TooLong, errors.TooLong),
    (media_errors.MediaError, errors.CorruptMedia),
    (OSError, errors.SourceUnreadable),
    (MemoryError, errors.DecoderCrashed),
    # Sides of more than 200 to 1, which the tower refuses: no other ValueError is left for a well-formed file.
    (ValueError, errors.UnsupportedMedia),
)


def serve(connection: socket.socket) -> None:
    """Answer requests until the other end of the connection is closed."""
    # The worker ends its children when it has drained, and the kernel does if the worker is killed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # One process a core decodes already; and threads of a parent that forked would hang here.
    torch.set_num_threads(1)
    while True:
        try:
            answer(connection, json.loads(wire.receive(connection)))
        except (EOFError, ConnectionError):
            return


def answer(connection: socket.socket, request: Mapping[str, Any]) -> None:
    """Send a header and the chunks it announces, then an empty message; or at any point an error instead."""
    try:
        decode = _decode_image if request["kind"] == MediaKind.IMAGE else _decode_video
        for message in decode(request):
            wire.send(connection, message)
        _send(connection, {})
    except ConnectionError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a strange file makes a library raise is about that file
        _send(connection, _reason(error))


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    wire.send(connection, json.dumps(message).encode())


def _reason(error: Exception) -> dict[str, str]:
    for theirs, ours in _REASONS:
        if isinstance(error, theirs):
            return {"error": ours.code, "message": _as_sentence(str(error))}
    traceback.print_exception(error, file=sys.stderr)
    return {"error": errors.InternalError.code, "message": _as_sentence(f"{type(error).__name__}: {error}")}


def _as_sentence(text: str) -> str:
    text = text[:_LONGEST_REASON]
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _decode_image(request: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    image = read_image(request["path"], max_pixels=request["limits"]["max_image_pixels"])
    patches = Glm4vImageProcessor(**request["processor"]).patches(image)
    yield _header(patches.grid_thw, width=patches.data.shape[1], chunk_segments=1)
    yield _as_bytes(patches.data)


def _decode_video(request: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    limits = request["limits"]
    processor = Glm4vVideoProcessor(**request["processor"])
    with open_video(
        request["path"],
        max_frames_total=limits["max_frames"],
        max_pixels=limits["max_frame_pixels"],
        max_duration=limits["max_duration_seconds"],
        threads=1,
    ) as source:
        plan = processor.plan(source.metadata, source.height, source.width)
        chunk_segments = max(1, request["chunk_patches"] // (plan.grid_thw[1] * plan.grid_thw[2]))
        yield _header(
            plan.grid_thw,
            width=3 * processor.temporal_patch_size * processor.patch_size**2,
            chunk_segments=chunk_segments,
            timestamps=plan.timestamps,
            frame_indices=plan.frame_indices,
        )
        for frames in _chunks(source, plan, chunk_segments * processor.temporal_patch_size):
            yield _as_bytes(_cut(frames, processor).data)


def _chunks(source: VideoSource, plan: VideoPlan, size: int) -> Iterator[Tensor]:
    """Frames (up to `size`, 3, H, W), as many chunks as there are, at the memory of one."""
    chunk: list[Tensor] = []
    for frame in plan.frames_of(source):
        chunk.append(frame)
        if len(chunk) == size:
            yield torch.stack(chunk)
            chunk.clear()
    if chunk:
        yield torch.stack(chunk)


def _cut(frames: Tensor, processor: Glm4vVideoProcessor) -> Patches:
    return patchify(
        frames,
        patch_size=processor.patch_size,
        merge_size=processor.merge_size,
        frames_per_patch=processor.temporal_patch_size,
    )


def _header(
    grid_thw: tuple[int, int, int],
    *,
    width: int,
    chunk_segments: int,
    timestamps: list[float] | None = None,
    frame_indices: list[int] | None = None,
) -> bytes:
    return json.dumps(
        {
            "grid_thw": grid_thw,
            "width": width,
            "chunk_segments": chunk_segments,
            "timestamps": timestamps,
            "frame_indices": frame_indices,
        }
    ).encode()


def _as_bytes(data: Tensor) -> memoryview:
    return data.contiguous().numpy().data.cast("B")
