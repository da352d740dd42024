"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    # What a shell starts in the background ignores Ctrl-C, and so do its children; here they are sent it for real.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own GLM4V_ settings must not decide what a test sees."""
    for name in os.environ:
        if name.startswith("GLM4V_") and not name.startswith("GLM4V_TEST_"):
            monkeypatch.delenv(name)


def require(available: bool, reason: str) -> None:
    """Skip at home and fail in CI, so that nothing is left out there without a word."""
    if available:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (in CI this is a failure, not a skip)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def media_dir() -> Path:
    """The folder of real photos and clips: $GLM4V_TEST_MEDIA, else ../shared/media."""
    folder = Path(os.environ.get("GLM4V_TEST_MEDIA", REPOSITORY.parent / "shared" / "media"))
    require(folder.is_dir(), f"no sample media in {folder}: set GLM4V_TEST_MEDIA to a folder that holds them")
    return folder
