"""`glm4v serve` as somebody at a laptop uses it: submit, and watch the browser."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from glm4v_client import EmbeddingClient
from tests.browsers import CHROMIUM, chromium
from tests.conftest import require
from tests.glm4v_command import Glm4v, ServeProcess

#: Milliseconds: the model is loaded and a first batch is run meanwhile, on a machine that does other things too.
PATIENCE = 120_000


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.linear_gradient("L").rotate(90 * number).resize((168, 112)).save(folder / f"{number}.png")
    return folder


def test_a_submitted_job_is_watched_to_its_last_picture(tmp_path: Path, photos: Path) -> None:
    require(CHROMIUM.exists(), f"no browser in {CHROMIUM}: apt-get install chromium")
    serve = ServeProcess(Glm4v(tmp_path, GLM4V_FILE_ROOTS=str(photos)), "--out", "out", "--device", "cpu")
    with closing(serve), chromium() as browser, EmbeddingClient(serve.url) as client:
        page = browser.new_page(base_url=serve.url)
        page.goto("/")
        expect(page.get_by_text("No jobs yet")).to_be_visible()
        job = client.submit([*sorted(photos.iterdir()), (photos / "gone.png").as_uri()], labels={"set": "gradients"})

        page.get_by_role("link", name=str(job.id)).click()
        expect(page.locator(".title .state")).to_have_text("finished", timeout=PATIENCE)
        expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "4")
        expect(page.get_by_text("not_found")).to_be_visible()
        page.locator("li.item .who > a").first.click()

        picture = page.locator(".preview img")
        expect(picture).to_be_visible()
        page.wait_for_function("document.querySelector('.preview img').complete")
        assert picture.evaluate("image => image.naturalWidth") > 0
        assert run_lines(page.locator("pre code").inner_text()) == "(24, 256)"


def run_lines(lines: str) -> str:
    """What a reader gets who copies the page's lines into a program."""
    program = f"{lines}\nprint(tuple(tokens.shape))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
