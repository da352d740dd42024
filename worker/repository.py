"""Every query of the system: the one door to the database.

Transactions lock items first, then embeddings, then jobs, each by id, then deliveries of jobs: none waits for another
in a circle. A method that changes rows is one transaction unless it says otherwise. All of them raise
DatabaseUnavailable when the database does not do its part, and SchemaMissing before the migrations were run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from sqlalchemy import Engine, select

from glm4v_client.states import ItemState, JobState
from worker import (
    repository_claims,
    repository_jobs,
    repository_listings,
    repository_outcomes,
    repository_reconciliation,
    repository_retention,
    repository_workers,
)
from worker.database import reading, transaction
from worker.records import (
    ClaimedItem,
    DispatchedItem,
    EmbeddingRecord,
    Heartbeat,
    ItemRecord,
    JobRecord,
    NewJob,
    Outcome,
    QueueDepth,
    Reconciled,
    Recorded,
    Renewal,
    Source,
    WorkerRecord,
)
from worker.repository_outcomes import Content
from worker.repository_webhooks import Webhooks
from worker.tables import Job


class Repository:
    """Jobs, items and embeddings in Postgres or SQLite. Threads may share one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.webhooks = Webhooks(engine)

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()

    def check(self) -> None:
        """Raise unless the database answers and has our tables."""
        with reading(self._engine) as connection:
            connection.execute(select(Job.id).limit(1))

    # Jobs

    def create_job(self, job: NewJob, sources: Iterable[Source] = (), *, close: bool = False) -> tuple[JobRecord, bool]:
        """Make a job with its first items. Returns it and whether it is new.

        With an idempotency key that the owner used before, it is the job made then, and `sources` are not read.

        Raises:
            IdempotencyConflict: the key belongs to a job with another model, priority, options, labels or webhook.
        """
        with transaction(self._engine) as connection:
            job_id, is_new = repository_jobs.create_job(connection, job)
            if is_new:
                for batch in repository_jobs.in_batches(sources):
                    repository_jobs.add_batch(connection, job_id, batch)
                if close:
                    repository_jobs.close_job(connection, job_id)
        return self.get_job(job_id), is_new

    def add_items(self, job_id: UUID, sources: Iterable[Source], *, first_position: int | None = None) -> int:
        """Add items to an open job, a transaction per batch: millions are never in memory at once. Returns how many.

        Args:
            first_position: the place in the job of the first of them. Items whose place is taken are left out, so that
                a call whose answer was lost can be repeated.

        Raises:
            JobNotFound, JobClosed, JobCancelled: the job takes no items.
            PositionConflict: `first_position` is beyond the job's last item.
        """
        added, position = 0, first_position
        for batch in repository_jobs.in_batches(sources):
            added += self._add_batch(job_id, batch, position)
            position = None if position is None else position + len(batch)
        return added

    def _add_batch(self, job_id: UUID, batch: Sequence[Source], first_position: int | None) -> int:
        while True:
            try:
                with transaction(self._engine) as connection:
                    return repository_jobs.add_batch(connection, job_id, batch, first_position=first_position)
            except repository_jobs.TotalChanged:
                continue

    def close_job(self, job_id: UUID) -> None:
        """Take no more items, so that the job can finish.

        Raises:
            JobNotFound: there is no such job.
        """
        with transaction(self._engine) as connection:
            repository_jobs.close_job(connection, job_id)

    def cancel_job(self, job_id: UUID) -> None:
        """Cancel queued items at once, a transaction per batch; running ones stop at their next stage.

        Raises:
            JobNotFound: there is no such job.
        """
        with transaction(self._engine) as connection:
            repository_jobs.flag_cancelled(connection, job_id)
        repository_jobs.cancel_queued(self._engine, job_id)

    def retry_failed(self, job_id: UUID, *, error_code: str | None = None) -> int:
        """Queue a job's failed items again with all their attempts, a transaction per batch. Returns how many.

        Raises:
            JobNotFound: there is no such job.
            JobCancelled: the job was cancelled.
        """
        count = 0
        while True:
            with transaction(self._engine) as connection:
                batch = repository_jobs.retry_batch(connection, job_id, error_code=error_code)
            if not batch:
                return count
            count += batch

    def retry_item(self, item_id: int) -> bool:
        """Queue one failed item again with all its attempts. Returns False when it has not failed.

        Raises:
            ItemNotFound: there is no such item.
            JobCancelled: its job was cancelled.
        """
        with transaction(self._engine) as connection:
            return repository_jobs.retry_item(connection, item_id)

    def delete_job(self, job_id: UUID) -> None:
        """Cancel a job and delete its items, a transaction per batch. Its embeddings are left to `retire_embeddings`.

        Raises:
            JobNotFound: there is no such job.
        """
        self.cancel_job(job_id)
        deleted = 1
        while deleted:
            with transaction(self._engine) as connection:
                deleted = repository_jobs.delete_batch(connection, job_id)
        with transaction(self._engine) as connection:
            repository_jobs.delete_empty_job(connection, job_id)

    # The queue

    def dispatch(self, model: str, *, window_items: int, limit: int = 1000) -> list[DispatchedItem]:
        """Choose the items that get a message next, in the order of priority and age, and mark them as sent.

        Commit comes before the message: a worker could not claim an item that this transaction still holds. When
        sending fails, `undispatch` them; when the process dies in between, `reconcile` finds them.

        Args:
            window_items: how many items of a model, of this priority or a higher one, may have an unclaimed message.
            limit: how many items to choose at most.
        """
        with transaction(self._engine) as connection:
            return repository_claims.dispatch(connection, model, window_items=window_items, limit=limit)

    def undispatch(self, item_ids: Sequence[int]) -> None:
        """Take back the mark of `dispatch`."""
        with transaction(self._engine) as connection:
            repository_claims.undispatch(connection, item_ids)

    def claim(
        self, item_ids: Sequence[int], *, worker: str, lease_seconds: float, suspects: bool = True
    ) -> list[ClaimedItem]:
        """Take those of the items that are queued and due; the others are somebody else's, done, or cancelled.

        Args:
            worker: who asks; for people to read.
            suspects: take suspects too. Without it they wait for a message of their own: one sent before they became
                suspects would run them beside others.
        """
        with transaction(self._engine) as connection:
            return repository_claims.claim(
                connection, item_ids, worker=worker, lease_seconds=lease_seconds, suspects=suspects
            )

    def renew(self, items: Sequence[ClaimedItem], *, lease_seconds: float) -> Renewal:
        """Prolong the leases of items under way."""
        with transaction(self._engine) as connection:
            return repository_claims.renew(connection, items, lease_seconds=lease_seconds)

    def record(self, outcomes: Sequence[Outcome]) -> Recorded:
        """Store what became of items, each only if its lease is still the item's last.

        One embedding per content and fingerprint: the first that is recorded is everybody's. Recording the same
        outcome twice is the same as once, so that a commit whose answer was lost can be repeated.
        """
        with transaction(self._engine) as connection:
            return repository_outcomes.record(connection, outcomes)

    def find_embedding(self, content_sha256: str, fingerprint: str) -> EmbeddingRecord | None:
        """The stored embedding of a content, if there is one."""
        return self.find_embeddings([(content_sha256, fingerprint)]).get((content_sha256, fingerprint))

    def find_embeddings(self, contents: Iterable[Content]) -> dict[Content, EmbeddingRecord]:
        """Those of the (content_sha256, fingerprint) pairs that have a stored embedding."""
        with reading(self._engine) as connection:
            return repository_outcomes.find_embeddings(connection, contents)

    # Upkeep

    def reconcile(self, *, max_attempts: int, redeliver_after: Mapping[str, float]) -> Reconciled | None:
        """Mend what failures left behind, in several transactions. None while somebody else does.

        Args:
            max_attempts: an item that silenced this many workers is failed as `worker_lost`.
            redeliver_after: by model, the age in seconds at which an unclaimed message counts as lost. Models that are
                not named are left alone.
        """
        return repository_reconciliation.reconcile(
            self._engine, max_attempts=max_attempts, redeliver_after=redeliver_after
        )

    def expire_leases(self) -> int:
        """End every lease, so that the next `reconcile` queues its item again. Returns how many.

        For a database that only one process uses: at its start, whoever held these leases is dead.
        """
        with transaction(self._engine) as connection:
            return repository_reconciliation.expire_leases(connection)

    def retire_embeddings(self, *, older_than_seconds: float, limit: int = 1000) -> list[EmbeddingRecord]:
        """Hide embeddings that no item referred to for so long. Delete their objects, then `remove_retired` them.

        Includes those that an earlier, interrupted run had retired.
        """
        with transaction(self._engine) as connection:
            return repository_retention.retire_embeddings(
                connection, older_than_seconds=older_than_seconds, limit=limit
            )

    def remove_retired(self, embedding_ids: Sequence[int]) -> int:
        """Delete the rows of retired embeddings whose objects are gone. Returns how many."""
        with transaction(self._engine) as connection:
            return repository_retention.remove_retired(connection, embedding_ids)

    def embeddings_after(self, embedding_id: int, *, limit: int = 1000) -> list[EmbeddingRecord]:
        """A page of all embeddings in the order of their ids, beginning after one."""
        with reading(self._engine) as connection:
            return repository_retention.embeddings_after(connection, embedding_id, limit=limit)

    def known_objects(self, object_keys: Sequence[str]) -> set[str]:
        """Those of the keys that an embedding names."""
        with reading(self._engine) as connection:
            return repository_retention.known_objects(connection, object_keys)

    def recompute(self, embedding_id: int) -> int:
        """Retire an embedding whose object is lost and queue its items again. Returns how many items."""
        with transaction(self._engine) as connection:
            repository_retention.retire_lost(connection, embedding_id)
        with transaction(self._engine) as connection:
            return repository_retention.requeue_items(connection, embedding_id)

    def heartbeat(self, beat: Heartbeat) -> None:
        """Store what a worker says of itself."""
        with transaction(self._engine) as connection:
            repository_workers.heartbeat(connection, beat)

    def remove_worker(self, name: str) -> None:
        """Forget a worker that stops in order."""
        with transaction(self._engine) as connection:
            repository_workers.remove_worker(connection, name)

    def forget_workers(self) -> None:
        """Forget workers of whom nothing was heard for a day: they ended without a word."""
        with transaction(self._engine) as connection:
            repository_workers.forget_workers(connection)

    def begin_chore(self, name: str, *, interval_seconds: float) -> bool:
        """Whether a chore is due and the caller is the one to do it; if so, it is due again after the interval."""
        with transaction(self._engine) as connection:
            return repository_workers.begin_chore(connection, name, interval_seconds=interval_seconds)

    # What people ask

    def get_job(self, job_id: UUID) -> JobRecord:
        """A job with its progress, from one row.

        Raises:
            JobNotFound: there is no such job.
        """
        with reading(self._engine) as connection:
            return repository_listings.get_job(connection, job_id)

    def list_jobs(
        self,
        *,
        owner: str | None = None,
        state: JobState | None = None,
        label: tuple[str, str] | None = None,
        before: UUID | None = None,
        limit: int = 100,
    ) -> list[JobRecord]:
        """Jobs, the newest first. For the next page, `before` is the last one's id; a label is a name and its value."""
        with reading(self._engine) as connection:
            return repository_listings.list_jobs(
                connection, owner=owner, state=state, label=label, before=before, limit=limit
            )

    def get_item(self, item_id: int) -> ItemRecord:
        """An item with its embedding.

        Raises:
            ItemNotFound: there is no such item.
        """
        with reading(self._engine) as connection:
            return repository_listings.get_item(connection, item_id)

    def list_items(
        self,
        job_id: UUID,
        *,
        states: Sequence[ItemState] = tuple(ItemState),
        error_code: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[ItemRecord]:
        """A job's items in the order of submission. For the next page, `after` is the last one's id."""
        with reading(self._engine) as connection:
            return repository_listings.list_items(
                connection, job_id, states=states, error_code=error_code, after=after, limit=limit
            )

    def unfinished_items(self, owner: str) -> int:
        """Queued and running items of all jobs of an owner."""
        with reading(self._engine) as connection:
            return repository_listings.unfinished_items(connection, owner)

    def queue_depths(self) -> list[QueueDepth]:
        """How much waits for each model that has unfinished jobs."""
        with reading(self._engine) as connection:
            return repository_listings.queue_depths(connection)

    def workers(self) -> list[WorkerRecord]:
        """Workers that were heard of within the last day, by model and name."""
        with reading(self._engine) as connection:
            return repository_workers.list_workers(connection)
