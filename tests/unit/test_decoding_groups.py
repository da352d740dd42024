from __future__ import annotations

import sys

import pytest

from glm4v_core.decoding_groups import DecodingGroup, split_groups
from glm4v_core.video_index import VideoIndex


def index(pts: list[int] | None, groups: list[DecodingGroup]) -> VideoIndex:
    return VideoIndex(video_stream=0, count=6, pts=pts, groups=groups, fps=30, frame_times=None)


def test_packets_are_split_where_decoding_may_begin() -> None:
    groups = split_groups([True, False, False, True, False, False], [0, 2, 1, 3, 5, 4])
    assert groups == [DecodingGroup(0, 0, 2), DecodingGroup(3, 3, 5)]


def test_groups_whose_times_overlap_are_one() -> None:
    # The frame at 2 comes after the second key frame and is shown before it: it needs the first group too.
    groups = split_groups([True, False, True, False, True], [0, 1, 3, 2, 4])
    assert groups == [DecodingGroup(0, 0, 1), DecodingGroup(2, 2, 3), DecodingGroup(4, 4, 4)]
    assert split_groups([True, False, True, False], [0, 2, 3, 1]) == [DecodingGroup(0, 0, 3)]


def test_what_comes_before_the_first_start_is_left_out() -> None:
    assert split_groups([False, True, False], [0, 1, 2]) == [DecodingGroup(1, 1, 2)]


@pytest.mark.parametrize(
    ("wanted", "packets"),
    [
        ([0], [range(3)]),
        ([2, 3], [range(3), range(3, sys.maxsize)]),
        ([4, 5], [range(3, sys.maxsize)]),
    ],
)
def test_only_groups_with_wanted_frames_are_decoded(wanted: list[int], packets: list[range]) -> None:
    groups = [DecodingGroup(0, 0, 20), DecodingGroup(3, 30, 50)]
    assert index([0, 10, 20, 30, 40, 50], groups).packets_for(wanted) == packets


def test_a_stream_without_times_is_decoded_from_its_start() -> None:
    assert index(None, [DecodingGroup(2, 0, 0)]).packets_for([5]) == [range(2, sys.maxsize)]
