"""Writes .env from .env.example with random secrets, if there is none: python deploy/new_env.py [FOLDER]"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sys
from pathlib import Path

API_KEY, API_KEYS = "GLM4V_API_KEY", "GLM4V_API_KEYS"


def fill(example: str) -> str:
    """The example with a secret of its own in every line that ends in `=`."""
    given: dict[str, str] = {}

    def value(match: re.Match[str]) -> str:
        name = match[1]
        given[name] = secrets.token_hex(24)
        if name == API_KEYS:
            given[name] = "operator:" + hashlib.sha256(given[API_KEY].encode()).hexdigest()
        return f"{name}={given[name]}"

    return re.sub(r"^([A-Z0-9_]+)=$", value, example, flags=re.MULTILINE)


def main(folder: Path) -> None:
    try:
        # Nobody else may read it, not even for a moment; and one that is there is somebody's.
        descriptor = os.open(folder / ".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(fill((folder / ".env.example").read_text()))
    sys.stderr.write("wrote .env with random secrets; its model is random:tiny, whose embeddings mean nothing\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
