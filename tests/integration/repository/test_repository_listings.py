from __future__ import annotations

import pytest

from glm4v_client.states import ItemState, JobState
from tests.repositories import (
    claim_all,
    make_job,
    succeeded,
)
from worker.errors import (
    ItemNotFound,
)
from worker.records import Failed
from worker.repository import Repository


class TestListings:
    def test_items_are_paged_in_order_and_filtered(self, repository: Repository):
        job = make_job(repository, 6)
        make_job(repository, 3)
        items = claim_all(repository, job)
        repository.record(
            [
                succeeded(items[0]),
                Failed(item=items[1], code="not_found", message="m"),
                Failed(item=items[3], code="too_large", message="m"),
            ]
        )
        pages, after = [], 0
        while page := repository.list_items(job.id, after=after, limit=4):
            pages.append([item.position for item in page])
            after = page[-1].id
        assert pages == [[0, 1, 2, 3], [4, 5]]

        def positions(**filters):
            return [item.position for item in repository.list_items(job.id, **filters)]

        assert positions(states=[ItemState.FAILED]) == [1, 3]
        assert positions(states=[ItemState.RUNNING, ItemState.SUCCEEDED]) == [0, 2, 4, 5]
        assert positions(error_code="too_large") == [3]

    def test_jobs_are_paged_newest_first_and_filtered(self, repository: Repository):
        jobs = [make_job(repository, 1, owner="ann" if number % 2 else "ben") for number in range(5)]
        newest_first = sorted((job.id for job in jobs), reverse=True)
        assert [job.id for job in repository.list_jobs(limit=3)] == newest_first[:3]
        assert [job.id for job in repository.list_jobs(before=newest_first[2])] == newest_first[3:]
        assert {job.owner for job in repository.list_jobs(owner="ann")} == {"ann"}

    def test_every_state_of_a_job_can_be_asked_for(self, repository: Repository):
        made = {
            JobState.OPEN: make_job(repository, 1, close=False),
            JobState.QUEUED: make_job(repository, 1),
            JobState.RUNNING: make_job(repository, 2),
            JobState.FINISHED: make_job(repository, 1),
            JobState.CANCELLED: make_job(repository, 1),
        }
        claim_all(repository, made[JobState.RUNNING])
        repository.record([succeeded(claim_all(repository, made[JobState.FINISHED])[0])])
        repository.cancel_job(made[JobState.CANCELLED].id)
        for state, job in made.items():
            assert repository.get_job(job.id).progress.state is state
            assert [found.id for found in repository.list_jobs(state=state)] == [job.id]

    def test_an_item_that_never_was_is_not_found(self, repository: Repository):
        with pytest.raises(ItemNotFound):
            repository.get_item(987_654)

    def test_jobs_are_found_by_a_label(self, repository: Repository):
        labels = [{"set": "a", "who/what.v-1": 'it\'s "quoted" \\ 日本'}, {"set": "b"}, {"set": "a"}, {}]
        jobs = [make_job(repository, 1, owner="ann", labels=one).id for one in labels]

        def found(name: str, value: str, **more):
            return [job.id for job in repository.list_jobs(label=(name, value), **more)]

        assert found("set", "a") == [jobs[2], jobs[0]]
        assert found("set", "a", before=jobs[2], owner="ann", state=JobState.QUEUED) == [jobs[0]]
        assert found("who/what.v-1", labels[0]["who/what.v-1"]) == [jobs[0]]
        assert found("set", "") == found("other", "a") == found("set", "a", owner="bob") == []

    def test_an_owners_unfinished_items_are_counted_over_all_jobs(self, repository: Repository):
        assert repository.unfinished_items("ann") == 0
        first = make_job(repository, 3, owner="ann")
        make_job(repository, 4, owner="ann", close=False)
        make_job(repository, 5, owner="bob")
        items = claim_all(repository, first)
        assert repository.unfinished_items("ann") == 7
        repository.record([succeeded(items[0])])
        assert repository.unfinished_items("ann") == 6
        repository.cancel_job(first.id)
        assert repository.unfinished_items("ann") == 4 + 2
