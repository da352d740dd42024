"""From queued rows to messages. Rows come first: a message only says that some of them want work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from kombu.exceptions import ChannelError, OperationalError

from worker.celery import EMBED, EmbedApp, message_priority, queue_name
from worker.errors import BrokerUnavailable, TransientError
from worker.records import DispatchedItem, JobRecord, NewJob, Source
from worker.repository import Repository
from worker.repository_jobs import in_batches

log = logging.getLogger(__name__)

#: Items marked as sent in one transaction: their messages are lost together if the process dies right after it.
_GROUP = 1024

#: One more try, on a new connection: that of the pool may be from before the broker's restart.
_RETRY = {"max_retries": 1, "interval_start": 0}


class Dispatcher:
    """Keeps a window of messages in the broker, so that Redis stays small however long the queue is."""

    def __init__(
        self, app: EmbedApp, repository: Repository, *, observe: Callable[[int], None] = lambda _: None
    ) -> None:
        """
        Args:
            observe: told how many items were sent.
        """
        self._app = app
        self._repository = repository
        self._observe = observe
        self._items_per_message = app.settings.items_per_message
        self._window_items = app.settings.outstanding_messages_per_queue * self._items_per_message

    def fill(self, model: str) -> int:
        """Send messages for items that wait, as far as the window has room. Returns how many items were sent.

        Raises:
            BrokerUnavailable: some were not sent; a later call sends them.
        """
        sent = 0
        while items := self._repository.dispatch(model, window_items=self._window_items, limit=_GROUP):
            self._send(model, items)
            sent += len(items)
        return sent

    def waiting_messages(self, model: str) -> int:
        """Messages in the broker that no worker has taken.

        Raises:
            BrokerUnavailable
        """
        try:
            with self._app.pool.acquire(block=True) as connection:
                return int(connection.default_channel.queue_declare(queue_name(model), passive=True).message_count)
        except ChannelError:
            # An empty queue does not exist.
            return 0
        except self._app.pool.connection.connection_errors as error:
            raise BrokerUnavailable from error

    def _send(self, model: str, items: Sequence[DispatchedItem]) -> None:
        unsent = {item.id for item in items}
        try:
            with self._app.producer_or_acquire() as producer:
                for message in messages(items, self._items_per_message):
                    self._app.send_task(
                        EMBED,
                        args=[message.item_ids],
                        kwargs={"alone": message.alone},
                        queue=queue_name(model),
                        priority=message_priority(message.priority),
                        producer=producer,
                        retry_policy=_RETRY,
                    )
                    unsent.difference_update(message.item_ids)
        except OperationalError as error:
            raise BrokerUnavailable from error
        finally:
            self._observe(len(items) - len(unsent))
            if unsent:
                self._repository.undispatch(sorted(unsent))


def submit_job(repository: Repository, dispatcher: Dispatcher, job: NewJob, sources: Iterable[Source]) -> JobRecord:
    """Accept a job of any size, reading `sources` as it stores them; workers begin with the first of them meanwhile.

    A broker that is away is no reason to refuse: reconciling sends what was not sent. A submission that breaks off is
    cancelled. With an idempotency key that the owner used before, it is the job made then, and `sources` are not read;
    unless its submitter was killed in the middle, and it is still open: then this call goes on with it.

    Raises:
        IdempotencyConflict: the key belongs to another job.
        DatabaseUnavailable: the job is not, or not wholly, stored.
    """
    record, is_new = repository.create_job(job)
    if not is_new and record.closed_at is not None:
        return record
    position = 0
    try:
        for batch in in_batches(sources):
            repository.add_items(record.id, batch, first_position=position)
            position += len(batch)
            _try_to_fill(dispatcher, job.model)
        repository.close_job(record.id)
    except BaseException:
        repository.cancel_job(record.id)
        raise
    return repository.get_job(record.id)


def _try_to_fill(dispatcher: Dispatcher, model: str) -> None:
    try:
        dispatcher.fill(model)
    except TransientError as error:
        log.warning("the job is stored, and its messages are sent later: %s", error.message)


@dataclass(frozen=True, kw_only=True)
class Message:
    """Items that travel together."""

    item_ids: list[int]
    priority: int
    alone: bool  #: nothing else may run beside it: it is suspected of having killed a worker


def messages(items: Iterable[DispatchedItem], size: int) -> Iterator[Message]:
    """Split items into messages of one priority and at most `size` items each. A suspect travels alone."""
    for (priority, suspect), group in groupby(items, key=lambda item: (item.priority, item.suspect)):
        item_ids = [item.id for item in group]
        step = 1 if suspect else size
        for start in range(0, len(item_ids), step):
            yield Message(item_ids=item_ids[start : start + step], priority=priority, alone=suspect)
