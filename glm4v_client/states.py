"""What an item and a job can be: the words that the service, its API and its clients share."""

from __future__ import annotations

from enum import StrEnum

#: A job's priority is 0 to 9; the larger number runs first.
LOWEST_PRIORITY, DEFAULT_PRIORITY, HIGHEST_PRIORITY = 0, 5, 9


class ItemState(StrEnum):
    QUEUED = "queued"  #: waits for a worker, or for its next attempt to be due
    RUNNING = "running"  #: a worker holds its lease
    SUCCEEDED = "succeeded"  #: its embedding is stored
    FAILED = "failed"  #: will not be tried again unless asked
    CANCELLED = "cancelled"  #: its job was cancelled before it finished


class JobState(StrEnum):
    OPEN = "open"  #: takes more items, and works on those it has
    QUEUED = "queued"  #: closed, no item has started
    RUNNING = "running"  #: closed, some items are unfinished
    FINISHED = "finished"  #: closed, every item succeeded or failed
    CANCELLED = "cancelled"  #: no further item will start


class MediaKind(StrEnum):
    AUTO = "auto"  #: the file's own format decides
    IMAGE = "image"  #: one picture: the first frame of an animation
    VIDEO = "video"  #: a clip; an animation counts as one
