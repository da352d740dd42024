from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm4v_client.options import MOST_PIXELS, PIXELS_PER_TOKEN
from worker.errors import InvalidOptions
from worker.options import parse_options


def test_what_is_not_set_is_left_out():
    assert parse_options({}).canonical() == {}
    assert parse_options({"fps": None}).canonical() == {}


def test_equal_options_are_equal_however_they_were_written():
    assert parse_options({"fps": 2, "max_frames": 8}) == parse_options({"max_frames": 8, "fps": 2.0})
    assert json.dumps(parse_options({"fps": 2}).canonical()) == '{"fps": 2.0}'


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"max_pixel": 1}, "there is no option 'max_pixel', only min_pixels, max_pixels, fps, max_frames, dtype"),
        ({"max_pixels": 783}, "max_pixels is 783: .* greater than or equal to 784"),
        ({"max_pixels": 2**31}, "max_pixels"),
        ({"max_pixels": "1000"}, "max_pixels is '1000': .* integer"),
        ({"max_pixels": True}, "max_pixels is True: .* integer"),
        ({"max_pixels": 1000.5}, "max_pixels is 1000.5"),
        ({"min_pixels": 2000, "max_pixels": 1000}, r"min_pixels \(2000\) is above max_pixels \(1000\)"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": float("inf")}, "fps is inf"),
        ({"fps": 241}, "fps is 241"),
        ({"max_frames": 0}, "max_frames is 0"),
        ({"dtype": "int4"}, "dtype is 'int4': .* 'float32', 'float8_e4m3' or 'int8'"),
        ({"fps": -1, "max_frames": 0}, "fps is -1.*; max_frames is 0"),
    ],
)
def test_an_impossible_option_is_named(values: dict[str, object], sentence: str):
    with pytest.raises(InvalidOptions, match=sentence):
        parse_options(values)


def test_a_huge_value_does_not_fill_the_message():
    with pytest.raises(InvalidOptions) as caught:
        parse_options({"dtype": "x" * 100_000})
    assert len(caught.value.message) < 300


@given(
    min_pixels=st.none() | st.integers(PIXELS_PER_TOKEN, 10**6),
    max_pixels=st.none() | st.integers(10**6, MOST_PIXELS),
    fps=st.none() | st.floats(0.001, 240),
    max_frames=st.none() | st.integers(1, 100_000),
    dtype=st.none() | st.sampled_from(["bfloat16", "float16", "float32"]),
)
def test_options_survive_the_database(**values: object):
    options = parse_options(values)
    assert parse_options(json.loads(json.dumps(options.canonical()))) == options
