from __future__ import annotations

import io
import json
import os
from contextlib import closing
from pathlib import Path

from worker.media import local_path
from worker.sources import SourceList, as_text, read_lines


def test_sources_are_gone_through_as_often_as_needed_and_in_order() -> None:
    names = ["b.png", "a.png", "b.png", "https://example.org/ä.png", "line\nbreak.png"]
    with closing(SourceList(iter(names))) as sources:
        assert len(sources) == 5
        assert list(sources) == names
        assert list(sources) == names


def test_equal_lists_have_equal_digests_and_others_have_not() -> None:
    lists = [["a", "b"], ["b", "a"], ["a\nb"], ["a"], []]
    digests = []
    for names in [*lists, ["a", "b"]]:
        with closing(SourceList(names)) as sources:
            digests.append(sources.digest)
    assert digests[-1] == digests[0]
    assert len(set(digests)) == len(lists)


def test_empty_lines_of_a_list_name_nothing() -> None:
    assert list(read_lines(io.StringIO("a.png\n\n  \nb c.png\r\n d.png"))) == ["a.png", "b c.png", " d.png"]


def test_a_name_that_is_no_text_becomes_a_url_of_the_same_file(tmp_path: Path) -> None:
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/ph\xf6to%20.png")
    source = as_text(strange)
    assert json.loads(json.dumps(source).encode().decode()) == source
    assert os.fsencode(local_path(source)) == os.fsencode(strange)
    assert as_text("ä.png") == "ä.png"
