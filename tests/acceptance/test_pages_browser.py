"""The status page in a real browser: live without a reload, whole without a script, and deaf to what sources say."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from glm4v_client.states import ItemState, JobState
from tests.browsers import CHROMIUM, chromium
from tests.conftest import require
from tests.repositories import claim_all, make_job
from tests.shown_items import store_video
from tests.status_site import RunningSite
from worker.records import Failed, NewJob, Source
from worker.settings import ApiKey

HOSTILE = [
    "<img src=x onerror=\"document.title='owned'\">",
    "javascript:document.title='owned'",
    "</bdi></a><script>document.title='owned'</script>",
    "https://example.org/\u202egnp.exe",
    "https://example.org/" + "a" * 3000,
]


Open = Callable[..., Page]


@dataclass
class Watched:
    """What pages asked for, and what they complained about."""

    urls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("request", lambda request: self.urls.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require(CHROMIUM.exists(), f"no browser in {CHROMIUM}: apt-get install chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RunningSite]:
    with RunningSite(tmp_path) as site:
        yield site


@pytest.fixture
def watched(site: RunningSite) -> Iterator[Watched]:
    """No page may complain, or speak to anybody but the site."""
    watched = Watched()
    yield watched
    assert watched.complaints == []
    assert {urlsplit(url).netloc for url in watched.urls} <= {urlsplit(site.url).netloc}


@pytest.fixture
def open_page(browser: Browser, site: RunningSite, watched: Watched) -> Iterator[Open]:
    contexts: list[BrowserContext] = []

    def open_page(path: str, **options: Any) -> Page:
        """A page of the site in a window of its own."""
        contexts.append(browser.new_context(base_url=site.url, **options))
        page = contexts[-1].new_page()
        watched.watch(page)
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_a_job_moves_without_a_reload(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 4)
    page = open_page(f"/jobs/{job.id}")
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "0")
    page.evaluate("window.sameDocument = true")

    first, second, *rest = claim_all(site.repository, job)
    site.repository.record([store_video(site.storage, first)])

    expect(bar).to_have_attribute("aria-valuenow", "1")
    expect(page.locator(f"#item-{first.id} .state")).to_have_text("succeeded")
    site.repository.record([Failed(item=second, code="not_found", message="look again")])
    site.repository.record([store_video(site.storage, item) for item in rest])
    expect(page.locator(".title .state")).to_have_text("finished")
    expect(page.locator(f"#item-{second.id}")).to_contain_text("look again")
    expect(page).to_have_title(re.compile("^100 %"))
    expect(page.get_by_role("status")).to_contain_text("100 % done, 1 failed, finished")
    assert page.evaluate("window.sameDocument")


def test_a_new_job_appears_in_the_list_without_a_reload(site: RunningSite, open_page: Open) -> None:
    page = open_page("/")
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    page.evaluate("window.sameDocument = true")

    job = make_job(site.repository, 2)

    expect(page.get_by_role("link", name=str(job.id))).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_focus_and_open_questions_survive_an_update(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 3)
    page = open_page(f"/jobs/{job.id}")
    page.get_by_text("Cancel…").click()
    page.get_by_label("Error code").fill("not_fo")
    page.get_by_label("Error code").focus()

    claim_all(site.repository, job)

    expect(page.locator(".title .state")).to_have_text("running")
    assert page.evaluate("document.activeElement.id") == "code"
    expect(page.get_by_label("Error code")).to_have_value("not_fo")
    expect(page.get_by_role("button", name="Yes, cancel")).to_be_visible()


def test_an_outage_takes_nothing_away_and_is_made_good(site: RunningSite, open_page: Open, watched: Watched) -> None:
    job = make_job(site.repository, 1)
    page = open_page(f"/jobs/{job.id}")
    expect(page.get_by_text("live", exact=True)).to_be_visible()

    page.context.set_offline(True)
    items = claim_all(site.repository, job)
    expect(page.get_by_text("not connected, trying again")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text(str(job.id))
    site.repository.record([store_video(site.storage, *items)])
    page.context.set_offline(False)

    expect(page.locator(".title .state")).to_have_text("finished", timeout=30_000)
    # The browser itself speaks of the broken connection.
    assert watched.complaints
    assert all("net::ERR" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def test_a_job_that_is_deleted_elsewhere_leaves_no_stale_page(
    site: RunningSite, open_page: Open, watched: Watched
) -> None:
    page = open_page(f"/jobs/{make_job(site.repository, 1).id}")
    expect(page.get_by_text("live", exact=True)).to_be_visible()

    site.repository.delete_job(site.repository.list_jobs()[0].id)

    expect(page.get_by_text("404 Not Found")).to_be_visible(timeout=30_000)
    assert watched.complaints
    assert all("404" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def test_an_item_moves_without_a_reload(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 2)
    first, _ = claim_all(site.repository, job)
    page = open_page(f"/items/{first.id}")
    expect(page.locator(".title .state")).to_have_text("running")

    site.repository.record([store_video(site.storage, first)])

    expect(page.locator(".title .state")).to_have_text("succeeded")
    expect(page.locator(".preview img")).to_be_visible()


def test_pages_are_live_with_a_key_too(tmp_path: Path, browser: Browser) -> None:
    key = ApiKey(name="anna", sha256=hashlib.sha256(b"ANNA").hexdigest())
    with RunningSite(tmp_path / "guarded", api_keys=(key,)) as site:
        job = make_job(site.repository, 1, owner="anna")
        context = browser.new_context(base_url=site.url, http_credentials={"username": "anybody", "password": "ANNA"})
        page = context.new_page()
        page.goto(f"/jobs/{job.id}")
        expect(page.get_by_text("live", exact=True)).to_be_visible()

        page.get_by_text("Cancel…").click()
        page.get_by_role("button", name="Yes, cancel").click()

        expect(page.locator(".title .state")).to_have_text("cancelled")
        context.close()


def test_failed_items_are_retried_by_keyboard(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 2)
    site.repository.record(
        [Failed(item=item, code="not_found", message="look again") for item in claim_all(site.repository, job)]
    )
    page = open_page(f"/jobs/{job.id}")

    tab_to(page, "Retry 2 failed")
    page.keyboard.press("Enter")

    expect(page.get_by_text("Failed items are queued again.")).to_be_visible()
    assert site.repository.get_job(job.id).progress.queued == 2


def test_a_job_is_cancelled_by_keyboard_after_a_question(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 2)
    page = open_page(f"/jobs/{job.id}")

    tab_to(page, "Cancel…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Yes, cancel")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Yes, cancel")).to_be_hidden()
    page.keyboard.press("Enter")
    assert site.repository.get_job(job.id).progress.state is JobState.QUEUED
    tab_to(page, "Yes, cancel")
    page.keyboard.press("Enter")

    expect(page.locator(".title .state")).to_have_text("cancelled")
    assert site.repository.get_job(job.id).progress.state is JobState.CANCELLED


def test_the_first_tab_skips_to_the_content(site: RunningSite, open_page: Open) -> None:
    page = open_page("/")

    page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    assert outline(page) != "none"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_every_stop_of_the_tab_key_is_seen_and_lies_below_the_one_before(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 3)
    page = open_page(f"/jobs/{job.id}")
    heights = []

    for _ in range(page.locator("main a, main button, main input:not([type=hidden]), main summary").count()):
        page.keyboard.press("Tab")
        assert outline(page) != "none"
        heights.append(page.evaluate("document.activeElement.getBoundingClientRect().bottom + scrollY"))

    # Stops of one line differ by their padding; none leads back to an earlier line.
    assert all(below > above - 30 for above, below in itertools.pairwise(heights))


def test_everything_is_readable_without_a_script(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 2)
    good, bad = claim_all(site.repository, job)
    site.repository.record([store_video(site.storage, good), Failed(item=bad, code="x", message="why")])

    page = open_page("/", java_script_enabled=False)
    page.get_by_role("link", name=str(job.id)).click()
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "2")
    expect(page.get_by_text("why")).to_be_visible()
    page.get_by_role("navigation", name="Items by state").get_by_role("link", name="Failed").click()
    expect(page.locator("li.item")).to_have_count(1)
    page.locator("li.item .who > a").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(bad.source)
    page.get_by_role("button", name="Retry").click()
    assert site.repository.get_item(bad.id).state is ItemState.QUEUED


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_scrolls_down_only(site: RunningSite, open_page: Open, width: int) -> None:
    job = hostile_job(site)
    first = site.repository.list_items(job)[0]

    for path in ("/", f"/jobs/{job}", f"/items/{first.id}", "/jobs/none"):
        if path == "/jobs/none":
            continue
        page = open_page(path, viewport={"width": width, "height": 700}, is_mobile=True)
        assert page.evaluate("document.documentElement.scrollWidth") == width, path


def test_sources_are_text_whatever_they_say(site: RunningSite, open_page: Open) -> None:
    job = hostile_job(site)
    pages = ["/", f"/jobs/{job}", *(f"/items/{item.id}" for item in site.repository.list_items(job))]

    for path in pages:
        page = open_page(path)
        expect(page).to_have_title(re.compile("glm4v-embed$"))
        assert page.locator("img[src=x], main script").count() == 0
        for link in page.locator("a").all():
            assert (link.get_attribute("href") or "").startswith(("/", "#", "?")), path
    page = open_page(f"/jobs/{job}")
    for item, source in zip(site.repository.list_items(job), HOSTILE, strict=True):
        name = page.locator(f"#item-{item.id} .who > a")
        assert name.text_content() == source
        assert name.locator("bdi").evaluate("element => getComputedStyle(element).unicodeBidi") == "isolate"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(site: RunningSite, open_page: Open, scheme: str) -> None:
    job = make_job(site.repository, 5)
    good, bad, *_ = claim_all(site.repository, job)
    site.repository.record([store_video(site.storage, good), Failed(item=bad, code="x", message="why")])

    paper = set()
    for path in ("/", f"/jobs/{job.id}", f"/items/{good.id}", f"/items/{bad.id}"):
        page = open_page(path, color_scheme=scheme)
        paper.add(luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")))
        assert page.evaluate(PALE_TEXT) == [], path
    assert all((one > 0.5) == (scheme == "light") for one in paper)


def test_controls_and_pictures_have_names(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 2)
    good, bad = claim_all(site.repository, job)
    site.repository.record([store_video(site.storage, good), Failed(item=bad, code="x", message="why")])

    for path in ("/", f"/jobs/{job.id}", f"/items/{good.id}", f"/items/{bad.id}"):
        page = open_page(path)
        assert page.evaluate(NAMELESS) == [], path
        assert page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == page.evaluate(
            "document.querySelectorAll('[id]').length"
        ), path
        assert page.locator("h1").count() == 1
        assert page.locator("html[lang]").count() == 1


def test_nothing_moves_for_who_asked_for_stillness(site: RunningSite, open_page: Open) -> None:
    job = make_job(site.repository, 2)
    claim_all(site.repository, job)
    duration = "getComputedStyle(document.querySelector('.bar rect')).transitionDuration"

    assert open_page(f"/jobs/{job.id}", reduced_motion="no-preference").evaluate(duration) != "0s"
    assert open_page(f"/jobs/{job.id}", reduced_motion="reduce").evaluate(duration) == "0s"


#: Visible text whose contrast with what lies behind it is below WCAG's AA.
PALE_TEXT = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parse(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parse(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const pale = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join("").trim();
    if (!text || !element.checkVisibility()) continue;
    const [high, low] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    if ((high + 0.05) / (low + 0.05) < 4.5) pale.push(`${element.tagName}.${element.className}: ${text}`);
  }
  return pale;
}"""

#: Controls, pictures and progress bars that a screen reader could not name.
NAMELESS = """() => [...document.querySelectorAll(
    "a, button, input:not([type=hidden]), summary, img, [role=progressbar], [role=region], nav")]
  .filter((element) => !(
    element.getAttribute("aria-label") || element.getAttribute("alt") || element.labels?.length ||
    element.textContent.trim()))
  .map((element) => element.outerHTML)"""


def hostile_job(site: RunningSite) -> object:
    job, _ = site.repository.create_job(
        NewJob(model="<b>random</b>:tiny", labels={"note": HOSTILE[0], "long": "w" * 256}),
        [Source(source=source) for source in HOSTILE],
        close=True,
    )
    first, *_ = claim_all(site.repository, job)
    site.repository.record([Failed(item=first, code="not_found", message=HOSTILE[2] + "m" * 500)])
    return job.id


def tab_to(page: Page, text: str) -> None:
    """Press Tab until the control with this text has the focus."""
    for _ in range(50):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == text:
            assert outline(page) != "none"
            return
    raise AssertionError(f"{text} is not reached by Tab")


def outline(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.activeElement).outlineStyle")


def luminance(colour: str) -> float:
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / (3 * 255)
