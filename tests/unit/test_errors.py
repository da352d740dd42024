from __future__ import annotations

import inspect
import pickle
import re

import pytest

from worker import errors
from worker.error_codes import error_from_code
from worker.errors import EmbedError, Interrupted, NotFound, PermanentError, TransientError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, EmbedError)]
BRANCHES = [EmbedError, TransientError, PermanentError, Interrupted]
LEAVES = [kind for kind in KINDS if kind not in BRANCHES]


def test_the_drawn_tree_is_the_tree():
    drawn = dict(re.findall(r"(\w+) +([a-z_]+)$", errors.__doc__ or "", re.MULTILINE))
    assert {name: code for name, code in drawn.items() if name[0].isupper()} == {
        kind.__name__: kind.code for kind in LEAVES
    }


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_belongs_to_the_branch_it_is_drawn_under(kind: type[EmbedError]):
    above = (errors.__doc__ or "").partition(f" {kind.__name__} ")[0]
    branch = re.findall(r"^    [├└]── (\w+)", above, re.MULTILINE)[-1]
    assert [base.__name__ for base in BRANCHES[1:] if issubclass(kind, base)] == [branch]


def test_codes_are_unique_and_fit_a_metric_label():
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_message_an_error_says_one_sentence(kind: type[EmbedError]):
    message = str(kind())
    assert message == kind().message
    assert re.fullmatch(r"[A-Z][^\n]*\.", message)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_rebuilt_from_its_code_or_by_pickle(kind: type[EmbedError]):
    for rebuilt in (error_from_code(kind.code, "what happened"), pickle.loads(pickle.dumps(kind("what happened")))):
        assert type(rebuilt) is kind
        assert rebuilt.message == "what happened"


def test_an_unknown_code_is_a_mistake():
    with pytest.raises(ValueError, match="no_such_code"):
        error_from_code("no_such_code")


def test_the_branch_decides_whether_a_retry_helps():
    assert isinstance(error_from_code("fetch_timeout"), TransientError)
    assert isinstance(error_from_code("not_found"), NotFound | PermanentError)
