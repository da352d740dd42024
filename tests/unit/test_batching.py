from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batching import Share, Waiting, next_batch


def image(patches: int, *, alone: bool = False) -> Waiting:
    return Waiting(segments=1, patches=patches, alone=alone)


def video(segments: int, patches: int, *, alone: bool = False) -> Waiting:
    return Waiting(segments=segments, patches=patches, alone=alone)


@pytest.mark.parametrize(
    ("queue", "taken"),
    [
        pytest.param([], [], id="nothing waits"),
        pytest.param([image(40), image(60)], [(0, 1), (1, 1)], id="all that fits goes together"),
        pytest.param([image(40), image(61)], [(0, 1)], id="what does not fit waits for the next forward"),
        pytest.param([image(40), image(70), image(60)], [(0, 1), (2, 1)], id="a younger one fills the room left"),
        pytest.param([image(500)], [(0, 1)], id="one segment above the budget runs"),
        pytest.param([image(500), image(4)], [(0, 1)], id="one segment above the budget runs by itself"),
        pytest.param([image(40), image(500)], [(0, 1)], id="a segment above the budget does not join others"),
        pytest.param([video(8, 30)], [(0, 3)], id="a video above the budget is split between segments"),
        pytest.param([video(8, 300)], [(0, 1)], id="a video of segments above the budget goes one at a time"),
        pytest.param([image(50), video(8, 20)], [(0, 1), (1, 2)], id="a video fills up what an image leaves"),
        pytest.param([image(4, alone=True), image(4)], [(0, 1)], id="a suspect takes nobody along"),
        pytest.param([image(4), image(4, alone=True), image(4)], [(0, 1), (2, 1)], id="a suspect joins nobody"),
        pytest.param([video(8, 30, alone=True)], [(0, 3)], id="a suspect video keeps to the budget too"),
    ],
)
def test_a_batch_is_what_one_forward_of_a_hundred_patches_holds(
    queue: list[Waiting], taken: list[tuple[int, int]]
) -> None:
    assert next_batch(queue, 100) == [Share(index=index, segments=segments) for index, segments in taken]


queues = st.lists(
    st.builds(
        Waiting, segments=st.integers(1, 50), patches=st.integers(4, 400), alone=st.sampled_from([False, False, True])
    ),
    min_size=1,
    max_size=20,
)


@given(queue=queues, patch_budget=st.integers(1, 1000))
def test_a_batch_keeps_to_the_budget_and_to_the_queue(queue: list[Waiting], patch_budget: int) -> None:
    shares = next_batch(queue, patch_budget)

    assert shares[0].index == 0, "the oldest is always part of it"
    assert [share.index for share in shares] == sorted({share.index for share in shares})
    assert all(1 <= share.segments <= queue[share.index].segments for share in shares)
    patches = sum(share.segments * queue[share.index].patches for share in shares)
    assert patches <= patch_budget or (len(shares), shares[0].segments) == (1, 1)
    assert len(shares) == 1 or not any(queue[share.index].alone for share in shares)


@given(queue=queues, patch_budget=st.integers(1, 1000))
def test_no_room_is_left_that_a_waiting_segment_could_have_used(queue: list[Waiting], patch_budget: int) -> None:
    shares = {share.index: share.segments for share in next_batch(queue, patch_budget)}
    if queue[0].alone:
        return
    room = patch_budget - sum(segments * queue[index].patches for index, segments in shares.items())
    left = [
        request
        for index, request in enumerate(queue)
        if not request.alone and request.segments > shares.get(index, 0) and request.patches <= room
    ]
    assert left == []


@given(queue=queues, patch_budget=st.integers(1, 1000))
def test_forward_after_forward_everything_is_encoded_once(queue: list[Waiting], patch_budget: int) -> None:
    left = {index: request.segments for index, request in enumerate(queue)}
    while left:
        order = list(left)
        waiting = [
            Waiting(segments=left[index], patches=queue[index].patches, alone=queue[index].alone) for index in order
        ]
        for share in next_batch(waiting, patch_budget):
            left[order[share.index]] -= share.segments
        assert all(segments >= 0 for segments in left.values())
        left = {index: segments for index, segments in left.items() if segments}
