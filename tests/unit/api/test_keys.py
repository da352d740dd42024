from __future__ import annotations

import hashlib
import re

import pytest

from api.keys import main
from worker.settings import Settings, load_settings


def test_a_new_key_is_shown_once_and_its_setting_holds_only_its_digest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["ann"]) == 0

    shown = capsys.readouterr().out
    (key,) = re.findall(r"glm4v_[\w-]{43}", shown)
    (setting,) = re.findall(r"GLM4V_API_KEYS=(\S+)", shown)
    monkeypatch.setenv("GLM4V_API_KEYS", setting)
    (entry,) = load_settings(Settings, database_url="sqlite:///x", store_url="file:///x").api_keys
    assert (entry.name, entry.sha256) == ("ann", hashlib.sha256(key.encode()).hexdigest())


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a:b"], [""], ["a,b"]])
def test_what_can_be_no_name_is_refused_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Usage" in capsys.readouterr().err
