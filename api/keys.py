"""`python -m api.keys NAME`: a new API key, and what the service's operator sets so that it is taken."""

from __future__ import annotations

import hashlib
import secrets
import sys

from pydantic import ValidationError

from worker.settings import ApiKey

_USAGE = "Usage: python -m api.keys NAME   (letters, digits, '.', '_' and '-'; 63 of them at most)"


def new_key(name: str) -> tuple[str, ApiKey]:
    """A key, and its entry in GLM4V_API_KEYS, from which nobody can tell the key.

    Raises:
        pydantic.ValidationError: the name cannot be one.
    """
    # Random as it is, it needs no slow digest: there is nothing to guess.
    secret = f"glm4v_{secrets.token_urlsafe(32)}"
    return secret, ApiKey(name=name, sha256=hashlib.sha256(secret.encode()).hexdigest())


def main(arguments: list[str]) -> int:
    try:
        (name,) = arguments
        secret, entry = new_key(name)
    except (ValueError, ValidationError):
        sys.stderr.write(f"{_USAGE}\n")
        return 2
    sys.stdout.write(
        f"The key, shown only now; its holder sends it as `Authorization: Bearer KEY`:\n\n    {secret}\n\n"
        f"For the service; several are separated by a comma:\n\n    GLM4V_API_KEYS={entry.name}:{entry.sha256}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
