"""The main job on two rendered photos and a clip, or on files of your own; `make demo` runs it.

python examples/demo.py [--out FOLDER] [--model DIR_OR_ID] [FILE ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from render_samples import render_samples

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the results")
parser.add_argument("--model", help="checkpoint folder or hub id; a small random model by default")
parser.add_argument("media", nargs="*", help="photos and clips; rendered samples by default")
arguments = parser.parse_args()

media = arguments.media or [str(path) for path in render_samples(arguments.out / "samples")]
command = [str(Path(sys.executable).with_name("glm4v")), "embed", *media, "--out", str(arguments.out), "--picture"]
command += ["--model", arguments.model or "random:tiny"]
sys.exit(subprocess.run(command).returncode)
