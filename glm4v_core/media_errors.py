"""What can be wrong with a photo or a clip.

MediaError
├── UnsupportedMedia      not a format that is read here
├── EmptyMedia            a file of zero bytes
├── CorruptMedia          the right format, but damaged or cut short
├── NoVideoStream         a container with nothing to look at
└── MediaLimitExceeded
    ├── TooManyPixels
    ├── TooManyFrames
    └── TooLong
"""

from __future__ import annotations

# ruff: noqa: N818 - each name is the sentence that it stands for, and callers map them to codes.


class MediaError(ValueError):
    """A photo or clip cannot be read; the message says why and, where there is a way, what to do."""


class UnsupportedMedia(MediaError):
    """The bytes are not an image or a clip in a format that is read here."""


class EmptyMedia(MediaError):
    """The file holds no bytes."""


class CorruptMedia(MediaError):
    """The format is known but its contents are damaged or cut short."""


class NoVideoStream(MediaError):
    """The container holds sound or subtitles only."""


class MediaLimitExceeded(MediaError):
    """Decoding would cost more than the caller allows."""


class TooManyPixels(MediaLimitExceeded):
    """One image, or one frame, has more pixels than the caller allows."""


class TooManyFrames(MediaLimitExceeded):
    """The clip has more frames than the caller allows."""


class TooLong(MediaLimitExceeded):
    """The clip lasts longer than the caller allows."""
