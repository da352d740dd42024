"""The status page over the real application, SQLite and a directory: what it says, and what it refuses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from glm4v_client.states import ItemState, JobState
from tests.repositories import claim_all, make_job
from tests.shown_items import store_video
from tests.status_site import StatusSite
from worker.records import Failed, Heartbeat, JobRecord, NewJob, Retry, Source

HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>{{7*7}}"

#: Of what store_video makes.
GRID = "3 \N{MULTIPLICATION SIGN} 8 \N{MULTIPLICATION SIGN} 12"


@pytest.fixture
def site(tmp_path: Path) -> StatusSite:
    return StatusSite(tmp_path)


@pytest.fixture
def browser(site: StatusSite) -> Iterator[TestClient]:
    """A browser on this machine, as far as headers go."""
    with TestClient(
        site.application,
        base_url="http://localhost",
        client=("127.0.0.1", 50_000),
        headers={"accept": "text/html,application/xhtml+xml", "sec-fetch-site": "same-origin"},
        follow_redirects=False,
    ) as client:
        yield client


def text_of(page: str) -> str:
    """What a reader sees: no tags, no runs of space."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def failed_job(site: StatusSite, count: int = 3, code: str = "not_found") -> JobRecord:
    job = make_job(site.repository, count)
    outcomes = [Failed(item=item, code=code, message="look again") for item in claim_all(site.repository, job)]
    site.repository.record(outcomes)
    return job


def test_an_empty_service_says_what_to_do(browser: TestClient) -> None:
    shown = text_of(browser.get("/").text)

    assert "No jobs yet" in shown
    assert "glm4v submit" in shown
    assert "No worker has reported" in shown


def test_the_list_shows_jobs_queues_and_workers(site: StatusSite, browser: TestClient) -> None:
    job = make_job(site.repository, 4, labels={"set": "coco"})
    first, second, *_ = claim_all(site.repository, job)
    site.repository.record([store_video(site.storage, first), Failed(item=second, code="not_found", message="look")])
    site.repository.heartbeat(
        Heartbeat(
            name="gpu-3",
            model="random:tiny",
            device="cuda:0",
            dtype="bfloat16",
            age_seconds=9,
            held=2,
            finished=1204,
            tokens=1_224_468,
        )
    )

    shown = text_of(browser.get("/").text)

    assert f"{job.id} random:tiny set : coco 50 % 2 of 4 items 1 failed 2 running 72 tokens" in shown
    assert "random:tiny 0 waiting 2 running" in shown
    assert "gpu-3 alive cuda:0 · bfloat16 random:tiny 2 in hand 1,204 done 1,224,468 tokens heard" in shown


def test_a_job_shows_its_items_with_code_sentence_and_timings(site: StatusSite, browser: TestClient) -> None:
    job = make_job(site.repository, 3)
    good, bad, again = claim_all(site.repository, job)
    site.repository.record(
        [
            store_video(site.storage, good),
            Failed(item=bad, code="not_found", message="check the address", timings={"fetch": 0.2, "total": 0.21}),
            Retry(item=again, code="http_unavailable", message="it is tried again", delay_seconds=100),
        ]
    )

    page = browser.get(f"/jobs/{job.id}").text
    shown = text_of(page)

    assert 'aria-valuenow="2"' in page
    assert f"1 file:///photo-0.jpg 72 tokens {GRID} 1.3 s decode 720 ms fetch 310 ms" in shown
    assert "2 file:///photo-1.jpg not_found check the address 210 ms fetch 200 ms failed" in shown
    assert "3 file:///photo-2.jpg http_unavailable it is tried again" in shown
    assert "again in 1 min" in shown
    assert "All 3 Failed 1 Running 0 Queued 1 Succeeded 1 Cancelled 0" in shown


def test_items_are_filtered_by_state_and_code(site: StatusSite, browser: TestClient) -> None:
    job = make_job(site.repository, 3)
    lost, broken, _ = claim_all(site.repository, job)
    site.repository.record(
        [
            Failed(item=lost, code="not_found", message="look again"),
            Failed(item=broken, code="corrupt_media", message="send it again"),
        ]
    )

    def shown(query: str) -> list[str]:
        return re.findall(r'id="item-(\d+)"', browser.get(f"/jobs/{job.id}{query}").text)

    assert len(shown("")) == 3
    assert shown("?state=failed") == [str(lost.id), str(broken.id)]
    assert shown("?state=failed&code=corrupt_media") == [str(broken.id)]
    assert shown("?state=succeeded") == []
    # The form sends its field empty when nothing was typed.
    assert shown("?state=failed&code=") == [str(lost.id), str(broken.id)]
    assert "No item is like that" in browser.get(f"/jobs/{job.id}?code=gone").text


def test_jobs_are_filtered_by_state_and_label(site: StatusSite, browser: TestClient) -> None:
    done = failed_job(site)
    waiting = make_job(site.repository, labels={"set": "a:b&c"})

    def shown(query: str) -> list[str]:
        return re.findall(r'id="job-([\w-]+)"', browser.get(f"/{query}").text)

    assert shown("") == [str(waiting.id), str(done.id)]
    assert shown("?state=finished") == [str(done.id)]
    (link,) = re.findall(r'class="label" href="([^"]+)"', browser.get("/?state=queued").text)
    assert shown(unescape(link).lstrip("/")) == [str(waiting.id)]
    assert "No job is like that" in browser.get("/?label=set:nothing").text


def test_pages_follow_one_another_by_cursor(site: StatusSite, browser: TestClient) -> None:
    job = make_job(site.repository, 250)
    seen: list[str] = []
    path = f"/jobs/{job.id}"

    while path:
        page = browser.get(path).text
        seen += re.findall(r'id="item-(\d+)"', page)
        path = next((unescape(href) for href in re.findall(r'href="([^"]+)" rel="next"', page)), "")

    assert seen == [str(item.id) for item in site.repository.list_items(job.id, limit=1000)]
    assert 'rel="first"' in page


def test_older_jobs_are_a_page_away(site: StatusSite, browser: TestClient) -> None:
    jobs = [make_job(site.repository, 1) for _ in range(55)]
    page = browser.get("/").text
    (older,) = re.findall(r'href="([^"]+)" rel="next"', page)

    shown = re.findall(r'id="job-([\w-]+)"', page + browser.get(unescape(older)).text)

    assert shown == [str(job.id) for job in reversed(jobs)]


def test_an_item_shows_all_that_is_known_of_it(site: StatusSite, browser: TestClient) -> None:
    job = make_job(site.repository, 1)
    outcome = store_video(site.storage, claim_all(site.repository, job, worker="gpu-3")[0])
    site.repository.record([outcome])
    embedding = outcome.embedding

    page = browser.get(f"/items/{outcome.item.id}").text
    shown = text_of(page)

    assert f'<img src="/v1/items/{outcome.item.id}/preview.png"' in page
    assert "72 of 16 numbers, float32" in shown
    assert GRID in shown
    assert "0 0.5 1" in shown
    assert "0 6 12 18 24 30" in shown
    for digest in (embedding.object_key, embedding.object_sha256, embedding.content_sha256, embedding.fingerprint):
        assert digest in shown
    assert "gpu-3" in shown
    assert f'EmbeddingClient("http://localhost").item({outcome.item.id}).embedding()' in shown


@pytest.mark.parametrize("path", ["/jobs/{job}", "/items/{item}", "/"])
def test_what_producers_send_is_text(site: StatusSite, browser: TestClient, path: str) -> None:
    job, _ = site.repository.create_job(
        NewJob(model=HOSTILE, labels={"name": HOSTILE}), [Source(source=HOSTILE)], close=True
    )
    (item,) = claim_all(site.repository, job, worker=HOSTILE)
    site.repository.record([Failed(item=item, code="not_found", message=HOSTILE)])

    answer = browser.get(path.format(job=job.id, item=item.id))

    assert "<img src=x" not in answer.text
    assert "alert(2)</script>" not in answer.text
    assert "49" not in re.findall(r"<bdi[^>]*>([^<]*)</bdi>", answer.text)
    assert HOSTILE in text_of(answer.text.replace("<wbr>", ""))
    assert "javascript:" not in answer.text


def test_pages_run_nothing_that_is_not_their_own(browser: TestClient) -> None:
    for path in ("/", "/jobs/nothing", "/nothing"):
        headers = browser.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert {
            value for name, value in policy.items() if name not in ("base-uri", "frame-ancestors", "default-src")
        } == {"'self'"}
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


def test_templates_keep_to_the_policy(browser: TestClient, site: StatusSite) -> None:
    job = failed_job(site)
    for path in ("/", f"/jobs/{job.id}", f"/items/{site.repository.list_items(job.id)[0].id}", "/nothing"):
        page = browser.get(path).text
        assert not re.search(r"<[^>]+\s(style|on\w+)=", page), path
        assert not re.search(r"<style|<script(?![^>]* src=)", page), path
        assert not re.search(r'(src|href)="(?!/|\?|#)', page), path


def test_assets_are_kept_for_ever_under_a_name_of_their_content(browser: TestClient) -> None:
    urls = re.findall(r'(?:src|href)="(/static/[^"]+)"', browser.get("/").text)

    kinds = {}
    for url in urls:
        answer = browser.get(unescape(url))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        kinds[url.partition("?")[0]] = answer.headers["content-type"].partition(";")[0]
    assert kinds == {
        "/static/icon.svg": "image/svg+xml",
        "/static/page.css": "text/css",
        "/static/page.js": "text/javascript",
    }
    assert browser.get("/static/../pages.py").status_code == 404


def test_failed_items_are_retried_by_a_form(site: StatusSite, browser: TestClient) -> None:
    job = failed_job(site)

    answer = browser.post(f"/jobs/{job.id}/retry")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}?note=retried")
    assert site.repository.get_job(job.id).progress.queued == 3
    assert "Failed items are queued again." in text_of(browser.get(answer.headers["location"]).text)


def test_only_failures_of_one_code_are_retried_when_asked(site: StatusSite, browser: TestClient) -> None:
    job = failed_job(site, code="not_found")

    assert browser.post(f"/jobs/{job.id}/retry", data={"code": "corrupt_media"}).status_code == 303
    assert site.repository.get_job(job.id).progress.queued == 0
    assert browser.post(f"/jobs/{job.id}/retry", data={"code": "not_found"}).status_code == 303
    assert site.repository.get_job(job.id).progress.queued == 3


def test_an_item_is_retried_by_a_form(site: StatusSite, browser: TestClient) -> None:
    item = site.repository.list_items(failed_job(site, 1).id)[0]

    answer = browser.post(f"/items/{item.id}/retry")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/items/{item.id}?note=retried")
    assert site.repository.get_item(item.id).state is ItemState.QUEUED


def test_a_job_is_cancelled_and_deleted_by_forms(site: StatusSite, browser: TestClient) -> None:
    job = make_job(site.repository)

    answer = browser.post(f"/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}?note=cancelled")
    assert site.repository.get_job(job.id).progress.state is JobState.CANCELLED
    answer = browser.post(f"/jobs/{job.id}/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?note=deleted")
    assert site.repository.list_jobs() == []
    assert browser.get(f"/jobs/{job.id}").status_code == 404


@pytest.mark.parametrize("action", ["cancel", "delete", "retry"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site", "origin": "http://other.localhost"},
        {"sec-fetch-site": "cross-site", "origin": "null"},
    ],
)
def test_a_form_on_another_site_changes_nothing(
    site: StatusSite, browser: TestClient, action: str, headers: dict[str, str]
) -> None:
    job = failed_job(site)
    before = site.repository.get_job(job.id)

    answer = browser.post(f"/jobs/{job.id}/{action}", headers=headers)

    assert answer.status_code == 403
    assert site.repository.get_job(job.id).progress.failed == before.progress.failed


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/jobs/01935f2a-8c1e-7b2a-9d4f-000000000000", 404, "job_not_found"),
        ("/jobs/nothing", 404, "unknown_path"),
        ("/items/999999", 404, "item_not_found"),
        ("/items/nothing", 404, "unknown_path"),
        ("/items/99999999999999999999999", 422, "invalid_request"),
        ("/nothing/at/all", 404, "unknown_path"),
        ("/?state=nothing", 422, "invalid_request"),
        ("/?cursor=nothing", 422, "invalid_request"),
    ],
)
def test_errors_are_pages_too(browser: TestClient, path: str, status: int, code: str) -> None:
    answer = browser.get(path)

    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert code in text_of(answer.text)
    assert "Go to the list of jobs" in answer.text


def test_a_program_is_told_of_errors_in_json(browser: TestClient) -> None:
    answer = browser.get("/v1/jobs/01935f2a-8c1e-7b2a-9d4f-000000000000", headers={"accept": "application/json"})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_action_that_the_job_refuses_is_told_on_a_page(site: StatusSite, browser: TestClient) -> None:
    job = make_job(site.repository)
    site.repository.cancel_job(job.id)

    answer = browser.post(f"/jobs/{job.id}/retry")

    assert answer.status_code == 409
    assert "job_cancelled" in text_of(answer.text)


@pytest.fixture
def guarded(tmp_path: Path) -> StatusSite:
    """A service with two keys, ANNA and BERT."""
    keys = ",".join(f"{name.lower()}:{hashlib.sha256(name.encode()).hexdigest()}" for name in ("ANNA", "BERT"))
    return StatusSite(tmp_path, api_keys=keys)


def test_a_browser_without_a_key_is_asked_for_one_by_a_page_in_the_same_look(guarded: StatusSite) -> None:
    with TestClient(guarded.application, headers={"accept": "text/html"}) as browser:
        answer = browser.get("/")
        (style,) = re.findall(r'href="(/static/page.css[^"]+)"', answer.text)

        assert answer.status_code == 401
        assert "Basic" in answer.headers["www-authenticate"]
        assert "unauthorized" in text_of(answer.text)
        assert browser.get(unescape(style)).status_code == 200


def test_a_key_shows_its_own_jobs_and_nobody_elses(guarded: StatusSite) -> None:
    job = make_job(guarded.repository, owner="anna")
    item = guarded.repository.list_items(job.id)[0]
    statuses = {}
    for key in ("ANNA", "BERT"):
        with TestClient(guarded.application, headers={"accept": "text/html"}) as browser:
            browser.auth = ("anybody", key)
            assert (str(job.id) in browser.get("/").text) == (key == "ANNA")
            statuses[key] = [
                browser.get(f"/jobs/{job.id}").status_code,
                browser.get(f"/items/{item.id}").status_code,
                browser.post(f"/jobs/{job.id}/cancel", follow_redirects=False).status_code,
            ]

    assert statuses == {"ANNA": [200, 200, 303], "BERT": [404, 404, 404]}


def test_a_job_that_is_over_tells_its_rate_and_no_time_left(site: StatusSite, browser: TestClient) -> None:
    shown = text_of(browser.get(f"/jobs/{failed_job(site).id}").text)

    assert "items/s" in shown
    assert " left" not in shown
    assert "took" in shown


def test_pages_show_what_options_labels_and_webhook_a_job_has(site: StatusSite, browser: TestClient) -> None:
    job = make_job(
        site.repository,
        options={"fps": 2.0, "max_frames": 64},
        labels={"team": "search"},
        webhook="https://hooks.example.org/done?token=1",
    )

    shown = text_of(browser.get(f"/jobs/{job.id}").text)

    for fact in ("fps 2", "max_frames 64", "team : search", "https://hooks.example.org/done?token=1 waiting"):
        assert fact in shown
