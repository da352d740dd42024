"""A job, as its producer holds it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

from glm4v_client.downloads import Download, DownloadSummary, download
from glm4v_client.errors import JobFailed, NotFound, WaitTimeout
from glm4v_client.item import AsyncItemHandle
from glm4v_client.records import Counts, Item, Job, JobDetail, Page, Retried
from glm4v_client.service import Service
from glm4v_client.states import ItemState, JobState
from glm4v_client.watching import has_ended, watch

#: Time between two questions of `wait`: short at first for jobs that take no time, then kind to the service.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0

#: Failed items that are looked at for the codes of a JobFailed, and of those, the ones that it shows.
_FAILURES_COUNTED, _FAILURES_SHOWN = 1000, 5


class JobView:
    """What is known of a job since it was last read; `record` has every field."""

    record: Job

    @property
    def id(self) -> UUID:
        return self.record.id

    @property
    def state(self) -> JobState:
        return self.record.state

    @property
    def counts(self) -> Counts:
        """Items by state."""
        return self.record.counts

    @property
    def has_ended(self) -> bool:
        """Whether no item will change any more unless asked."""
        return has_ended(self.record)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state.value} {self.counts.done}/{self.counts.total}>"


class AsyncJobHandle(JobView):
    """A job, and what can be done with it."""

    def __init__(self, service: Service, record: Job) -> None:
        self._service = service
        self.record = record

    @property
    def _path(self) -> str:
        return f"/v1/jobs/{self.id}"

    async def refresh(self) -> JobDetail:
        """Read the job anew."""
        detail = await self._service.call("GET", self._path, JobDetail)
        self.record = detail
        return detail

    async def watch(self) -> AsyncGenerator[Job, None]:
        """The job at once, at each change of its state, counts or tokens, and when it has ended.

        It comes from the service's events; when the connection breaks from new ones, and where events cannot be had,
        from asking once a second.
        """
        async with aclosing(watch(self._service, self.id)) as progress:
            async for job in progress:
                self.record = job
                yield job

    async def wait(self, timeout: float | None = None) -> Job:
        """Wait until the job has ended; items may have failed (`raise_for_failures`).

        Args:
            timeout: seconds; without it as long as it takes. A question under way is finished.

        Raises:
            WaitTimeout: it had not ended by then; it goes on.
        """
        begun, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        while not has_ended(job := await self.refresh()):
            left = float("inf") if timeout is None else timeout - (time.monotonic() - begun)
            if timeout is not None and left <= 0:
                raise WaitTimeout(job, seconds=timeout)
            await self._service.network.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return job

    async def items(
        self, *, state: ItemState | str | None = None, code: str | None = None
    ) -> AsyncGenerator[AsyncItemHandle, None]:
        """The job's items in the order of submission, fetched a page at a time.

        Args:
            state: only those in this state.
            code: only those whose error has this code.
        """
        async with aclosing(self._records(state, code)) as records:
            async for record in records:
                yield AsyncItemHandle(self._service, record)

    async def raise_for_failures(self) -> None:
        """Read the job anew, and do nothing if all is well with its items so far.

        Raises:
            JobFailed: some failed or were cancelled; it says how many, with which codes, and shows the first.
        """
        job = await self.refresh()
        if not job.counts.failed and not job.counts.cancelled:
            return
        codes: Counter[str] = Counter()
        examples: list[Item] = []
        async with aclosing(self._records(ItemState.FAILED, None)) as failed:
            async for item in failed:
                codes[item.error.code if item.error else item.state.value] += 1
                if len(examples) < _FAILURES_SHOWN:
                    examples.append(item)
                if codes.total() == _FAILURES_COUNTED:
                    break
        raise JobFailed(job, codes=dict(codes.most_common()), examples=tuple(examples))

    async def download(
        self,
        directory: str | Path,
        *,
        concurrency: int = 8,
        on_file: Callable[[Download], None] | None = None,
    ) -> DownloadSummary:
        """Write every embedding that the job has to `directory`, named by its place: `00000007.safetensors`.

        A file is complete or not there. One that is there already is kept, so that the same call goes on after whatever
        ended it, and brings what has succeeded since. One directory holds one job.

        Args:
            concurrency: files under way at once.
            on_file: is told what became of each item, as it does.

        Returns:
            How many were written and kept, which failed, and how many items have no embedding and why.

        Raises:
            InvalidArgument: another download into the directory is under way.
            OSError: the directory cannot be written.
            ClientError: the job's items could not be listed; what became of a single one is in the summary.
        """
        return await download(self._service, self.id, Path(directory), concurrency=concurrency, on_file=on_file)

    async def cancel(self) -> JobDetail:
        """Start no further item. Those that are done keep their embeddings."""
        detail = await self._service.call("POST", f"{self._path}/cancel", JobDetail)
        self.record = detail
        return detail

    async def retry_failed(self, code: str | None = None) -> int:
        """Queue failed items again.

        Args:
            code: only those that failed for this reason.

        Returns:
            How many there were.
        """
        # A second time it would queue those again that have failed since.
        retried = await self._service.call(
            "POST", f"{self._path}/retry", Retried, params={"code": code}, repeatable=False
        )
        return retried.retried

    async def delete(self) -> None:
        """Forget the job and its items. No error if it is gone already."""
        try:
            await self._service.content("DELETE", self._path)
        except NotFound:
            # Gone is what was wanted; a repetition after a lost answer ends here too.
            return

    def _records(self, state: ItemState | str | None, code: str | None) -> AsyncGenerator[Item, None]:
        return self._service.pages(f"{self._path}/items", Page[Item], {"state": state, "code": code})
