from __future__ import annotations

import itertools

from sqlalchemy import Engine

from glm4v_client.states import ItemState, JobState, MediaKind
from tests.repositories import (
    LEASE,
    MODEL,
    age,
    claim_all,
    embedding,
    item_ids,
    make_job,
    reconcile,
    states,
    succeeded,
)
from worker.records import Failed, Recorded, Released, Retry, Succeeded
from worker.repository import Repository


class TestOutcomes:
    def test_a_success_is_stored_with_its_embedding(self, repository: Repository):
        job = make_job(repository, 1)
        (item,) = claim_all(repository, job)
        made = embedding(kind=MediaKind.VIDEO)
        recorded = repository.record([Succeeded(item=item, embedding=made, timings={"decode": 0.125})])
        assert recorded == Recorded(accepted=frozenset({item.id}), unused_objects=())
        row = repository.get_item(item.id)
        assert (row.state, row.attempt, row.timings) == (ItemState.SUCCEEDED, 1, {"decode": 0.125})
        stored = row.embedding
        assert stored is not None
        for name in ("grid_thw", "timestamps", "frame_indices", "object_key", "dtype", "kind", "num_tokens"):
            assert getattr(stored, name) == getattr(made, name)
        assert repository.find_embedding(made.content_sha256, made.fingerprint) == stored
        progress = repository.get_job(job.id).progress
        assert (progress.state, progress.succeeded, progress.tokens) == (JobState.FINISHED, 1, 12)

    def test_a_failure_keeps_code_sentence_and_attempts(self, repository: Repository):
        job = make_job(repository, 1)
        (item,) = claim_all(repository, job)
        repository.record([Failed(item=item, code="not_found", message="check it", timings={"fetch": 1.5})])
        row = repository.get_item(item.id)
        assert (row.state, row.error_code, row.error_message) == (ItemState.FAILED, "not_found", "check it")
        assert (row.attempt, row.timings, row.embedding) == (1, {"fetch": 1.5}, None)

    def test_a_retry_waits_until_it_is_due_and_counts(self, repository: Repository):
        job = make_job(repository, 1)
        (item,) = claim_all(repository, job)
        repository.record([Retry(item=item, code="fetch_timeout", message="slow", delay_seconds=-1)])
        assert repository.dispatch(MODEL, window_items=10) == []
        assert reconcile(repository).due == 1
        assert len(repository.dispatch(MODEL, window_items=10)) == 1
        (again,) = claim_all(repository, job)
        assert (again.attempt, again.suspect) == (2, False)
        assert repository.get_item(item.id).error_code == "fetch_timeout"

    def test_what_is_given_back_costs_no_attempt(self, repository: Repository):
        job = make_job(repository, 1)
        for _ in range(5):
            (item,) = claim_all(repository, job)
            assert item.attempt == 1
            repository.record([Released(item=item)])
        assert len(repository.dispatch(MODEL, window_items=10)) == 1

    def test_a_late_result_of_a_lost_lease_changes_nothing(self, repository: Repository):
        job = make_job(repository, 1)
        (late,) = claim_all(repository, job)
        repository.expire_leases()
        assert reconcile(repository).suspects == 1
        outcome = succeeded(late)
        late_answer = Recorded(accepted=frozenset(), unused_objects=(outcome.embedding.object_key,))
        assert repository.record([outcome]) == late_answer
        (new,) = claim_all(repository, job)
        assert repository.record([outcome]) == late_answer
        assert repository.record([Failed(item=late, code="c", message="m")]).accepted == frozenset()
        assert states(repository, job) == [ItemState.RUNNING]
        assert repository.record([succeeded(new)]).accepted == {new.id}

    def test_a_result_of_an_attempt_that_was_given_back_changes_nothing(self, repository: Repository):
        job = make_job(repository, 1)
        (first,) = claim_all(repository, job)
        repository.record([Released(item=first)])
        (second,) = claim_all(repository, job)
        assert first.attempt == second.attempt
        assert repository.record([Failed(item=first, code="c", message="m")]).accepted == frozenset()
        assert states(repository, job) == [ItemState.RUNNING]

    def test_recording_twice_is_recording_once(self, repository: Repository):
        job = make_job(repository, 2)
        first, second = claim_all(repository, job)
        outcomes = [succeeded(first), Retry(item=second, code="c", message="m", delay_seconds=60)]
        assert repository.record(outcomes) == repository.record(outcomes)
        assert states(repository, job) == [ItemState.SUCCEEDED, ItemState.QUEUED]
        assert repository.get_job(job.id).progress.tokens == 12

    def test_equal_contents_end_with_one_embedding(self, repository: Repository):
        job = make_job(repository, 4)
        items = claim_all(repository, job)
        together = [succeeded(items[0]), succeeded(items[1])]
        assert repository.record(together).unused_objects == (together[1].embedding.object_key,)
        later = succeeded(items[2])
        assert repository.record([later]).unused_objects == (later.embedding.object_key,)
        found = repository.find_embedding("a" * 64, "f" * 64)
        assert found is not None
        reused = Succeeded(item=items[3], embedding=found)
        assert repository.record([reused]) == Recorded(accepted=frozenset({items[3].id}), unused_objects=())
        assert {item.embedding.object_key for item in repository.list_items(job.id)} == {
            together[0].embedding.object_key
        }

    def test_embeddings_are_found_by_content_and_fingerprint_together(self, repository: Repository):
        job = make_job(repository, 2)
        one, two = claim_all(repository, job)
        kept = [embedding("a", fingerprint="1"), embedding("b", fingerprint="2")]
        repository.record([Succeeded(item=item, embedding=made) for item, made in zip((one, two), kept, strict=True)])
        asked = [(content * 64, fingerprint * 64) for content, fingerprint in itertools.product("abc", "123")]
        assert set(repository.find_embeddings(asked)) == {("a" * 64, "1" * 64), ("b" * 64, "2" * 64)}
        assert repository.find_embeddings([]) == {}

    def test_many_jobs_share_one_transaction(self, repository: Repository):
        jobs = [make_job(repository, 2) for _ in range(5)]
        items = repository.claim(
            [item for job in jobs for item in item_ids(repository, job)], worker="w", lease_seconds=LEASE
        )
        recorded = repository.record([succeeded(item, "abcdefghij"[number]) for number, item in enumerate(items)])
        assert len(recorded.accepted) == 10
        assert {repository.get_job(job.id).progress.state for job in jobs} == {JobState.FINISHED}

    def test_nothing_to_record_is_no_error(self, repository: Repository):
        assert repository.record([]) == Recorded(accepted=frozenset(), unused_objects=())


class TestRetention:
    def test_an_embedding_goes_after_its_last_reference_and_its_time(self, repository: Repository, engine: Engine):
        jobs = [make_job(repository, 1) for _ in range(2)]
        repository.record([succeeded(claim_all(repository, job)[0]) for job in jobs])
        repository.delete_job(jobs[0].id)
        assert repository.retire_embeddings(older_than_seconds=0) == []
        repository.delete_job(jobs[1].id)
        assert repository.retire_embeddings(older_than_seconds=60) == []
        age(engine, "embeddings", "released_at", 100)
        (retired,) = repository.retire_embeddings(older_than_seconds=60)
        assert repository.find_embedding(retired.content_sha256, retired.fingerprint) is None
        assert repository.retire_embeddings(older_than_seconds=60) == [retired]
        assert repository.remove_retired([retired.stored_id]) == 1
        assert repository.known_objects([retired.object_key]) == set()

    def test_an_embedding_that_is_used_again_stays(self, repository: Repository):
        first, second = make_job(repository, 1), make_job(repository, 1)
        repository.record([succeeded(claim_all(repository, first)[0])])
        found = repository.find_embedding("a" * 64, "f" * 64)
        assert found is not None
        repository.delete_job(first.id)
        (item,) = claim_all(repository, second)
        repository.record([Succeeded(item=item, embedding=found)])
        repository.retire_embeddings(older_than_seconds=0)
        assert repository.find_embedding("a" * 64, "f" * 64) == found

    def test_a_success_whose_embedding_went_meanwhile_is_computed_again_at_no_charge(self, repository: Repository):
        first, second = make_job(repository, 1), make_job(repository, 1)
        repository.record([succeeded(claim_all(repository, first)[0])])
        found = repository.find_embedding("a" * 64, "f" * 64)
        assert found is not None
        (item,) = claim_all(repository, second)
        repository.delete_job(first.id)
        (retired,) = repository.retire_embeddings(older_than_seconds=0)
        assert repository.record([Succeeded(item=item, embedding=found)]).accepted == frozenset()
        assert states(repository, second) == [ItemState.QUEUED]
        (again,) = claim_all(repository, second)
        assert again.attempt == 1
        # The same content may be stored anew while the old object is still being deleted.
        made = succeeded(again)
        assert repository.record([made]) == Recorded(accepted=frozenset({again.id}), unused_objects=())
        repository.remove_retired([retired.stored_id])
        assert repository.known_objects([retired.object_key, made.embedding.object_key]) == {made.embedding.object_key}

    def test_an_embedding_whose_object_is_lost_is_computed_again(self, repository: Repository):
        job = make_job(repository, 2)
        repository.record([succeeded(item) for item in claim_all(repository, job)])
        found = repository.find_embedding("a" * 64, "f" * 64)
        assert found is not None
        assert repository.recompute(found.stored_id) == 2
        assert states(repository, job) == [ItemState.QUEUED, ItemState.QUEUED]
        assert repository.get_job(job.id).progress.tokens == 0
        assert repository.find_embedding("a" * 64, "f" * 64) is None
        assert repository.embeddings_after(0) == []
        assert [one.id for one in repository.retire_embeddings(older_than_seconds=0)] == [found.id]

    def test_embeddings_are_paged(self, repository: Repository):
        job = make_job(repository, 3)
        repository.record([succeeded(item, "abc"[number]) for number, item in enumerate(claim_all(repository, job))])
        first = repository.embeddings_after(0, limit=2)
        assert len(first) == 2
        assert len(repository.embeddings_after(first[-1].stored_id, limit=2)) == 1
