"""The encoder against transformers', side by side in one run, with the same random weights.

Runs on a bare machine: it needs torch, torchvision, transformers, numpy and pillow, and this checkout.

    python benchmarks/encoder.py                         # CPU, bfloat16, full width and depth: about 15 minutes
    python benchmarks/encoder.py --depth 4 --rounds 3    # a quick look
    python benchmarks/encoder.py --device cuda           # adds 1080p and batches at several patch budgets
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers.models.glm4v.configuration_glm4v import Glm4vVisionConfig as ReferenceConfig
from transformers.models.glm4v.modeling_glm4v import Glm4vVisionModel as ReferenceModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from glm4v_core.config import Glm4vVisionConfig
from glm4v_core.vision_model import Glm4vVisionModel

Grids = list[tuple[int, int, int]]

CASES: dict[str, Grids] = {
    "four 336x336 images": [(1, 24, 24)] * 4,
    "one 672x672 image": [(1, 48, 48)],
    "mixed sizes": [(1, 24, 24), (1, 48, 36), (1, 8, 8), (1, 30, 20), (1, 16, 44)],
    "8-segment video": [(8, 16, 24)],
}
GPU_CASES: dict[str, Grids] = {
    "1080p image": [(1, 78, 138)],
    "8k patches of 336x336": [(1, 24, 24)] * 14,
    "32k patches of 336x336": [(1, 24, 24)] * 57,
    "128k patches of 336x336": [(1, 24, 24)] * 228,
    "32k patches, mixed": [(1, 24, 24), (1, 48, 36), (1, 78, 138), (1, 8, 8), (1, 134, 100), (1, 60, 48)],
    "300-segment video": [(300, 16, 24)],
}


@dataclass(frozen=True)
class Row:
    case: str
    tokens: int
    ours_s: float
    theirs_s: float
    #: Median over rounds of theirs / ours, each pair taken one after the other.
    speedup: float
    relative_error: float
    #: Of the rate that one large product of the same dtype reaches on this device.
    matrix_rate_share: float


def main() -> None:
    arguments = parse_arguments()
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    ours, theirs = build_models(arguments.depth, device, dtype)
    if not arguments.eager:
        ours.compile_blocks()
    peak = matrix_rate(device, dtype)
    cases = CASES | (GPU_CASES if device.type == "cuda" else {})
    rows = []
    for name, grids in cases.items():
        rows.append(measure(name, grids, ours, theirs, peak, arguments.rounds))
        if not arguments.json:
            print(f"  {name}: {rows[-1].speedup:.2f}x", file=sys.stderr, flush=True)
    conditions = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "dtype": arguments.dtype,
        "our_blocks": "eager" if arguments.eager else "compiled",
        "depth": arguments.depth,
        "rounds": arguments.rounds,
        "matrix_tflops": round(peak / 1e12, 3),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "attention_of_transformers": "sdpa",
    }
    report(rows, conditions, as_json=arguments.json)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--depth", type=int, default=24, help="blocks; 24 is the model's own (default)")
    parser.add_argument("--rounds", type=int, default=5, help="measured pairs after one warm-up (default 5)")
    parser.add_argument("--eager", action="store_true", help="without torch.compile for our blocks")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def build_models(depth: int, device: torch.device, dtype: torch.dtype) -> tuple[Glm4vVisionModel, ReferenceModel]:
    """Both towers on one set of tensors."""
    with torch.device("meta"):
        ours = Glm4vVisionModel(Glm4vVisionConfig(depth=depth))
        reference_config = ReferenceConfig(depth=depth)
        reference_config._attn_implementation = "sdpa"
        theirs = ReferenceModel(reference_config)
    ours.to_empty(device="cpu").init_weights(0)
    ours.to(device, dtype).eval()
    theirs.load_state_dict(ours.state_dict(), assign=True)
    # The frequencies are no part of a state dict; made here, they stay in float32 as from_pretrained leaves them.
    theirs.rotary_pos_emb = type(theirs.rotary_pos_emb)(reference_config).to(device)
    return ours, theirs.eval()


@torch.no_grad()
def measure(name: str, grids: Grids, ours: Glm4vVisionModel, theirs: ReferenceModel, peak: float, rounds: int) -> Row:
    device, dtype = ours.downsample.weight.device, ours.downsample.weight.dtype
    patches = sum(t * h * w for t, h, w in grids)
    pixels = torch.randn(patches, 1176, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    grid_thw = torch.tensor(grids, device=device)
    # transformers flattens a video into one grid a frame before its tower.
    frame_grids = torch.tensor([(1, h, w) for t, h, w in grids for _ in range(t)], device=device)

    def run_ours() -> Tensor:
        return ours(pixels, grid_thw)

    def run_theirs() -> Tensor:
        return theirs(pixels, frame_grids).pooler_output

    mine, reference = run_ours().float(), run_theirs().float()
    error = ((mine - reference).norm() / reference.norm()).item()
    pairs = [(seconds(run_ours, device), seconds(run_theirs, device)) for _ in range(rounds)]
    ours_s = statistics.median(pair[0] for pair in pairs)
    return Row(
        case=name,
        tokens=patches // 4,
        ours_s=ours_s,
        theirs_s=statistics.median(pair[1] for pair in pairs),
        speedup=statistics.median(theirs_s / ours_s for ours_s, theirs_s in pairs),
        relative_error=error,
        matrix_rate_share=floating_point_operations(grids, ours.config) / ours_s / peak,
    )


def floating_point_operations(grids: Grids, config: Glm4vVisionConfig) -> float:
    """Two for each weight a patch or token meets, and the two products of attention."""
    patches = sum(t * h * w for t, h, w in grids)
    hidden, wide, merger = config.hidden_size, config.out_hidden_size, config.intermediate_size
    block = 4 * hidden * hidden + 3 * hidden * wide
    per_patch = config.patch_dim * hidden + config.depth * block
    per_token = 4 * hidden * wide + wide * wide + 3 * wide * merger
    attention = 2 * config.depth * hidden * sum(t * (h * w) ** 2 for t, h, w in grids)
    return 2.0 * (patches * per_patch + patches / 4 * per_token + attention)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of one 4096-wide product, the best of ten."""
    left, right = (torch.randn(4096, 4096, device=device).to(dtype) for _ in range(2))
    seconds(lambda: left @ right, device)
    return 2 * 4096**3 / min(seconds(lambda: left @ right, device) for _ in range(10))


def seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def processor_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else platform.processor()


def report(rows: list[Row], conditions: dict[str, object], *, as_json: bool) -> None:
    mean = statistics.geometric_mean(row.speedup for row in rows)
    if as_json:
        print(json.dumps({"conditions": conditions, "rows": [vars(row) for row in rows], "geometric_mean": mean}))
        return
    print(", ".join(f"{key} {value}" for key, value in conditions.items()), end="\n\n")
    print("| case | tokens | tokens/s | ours s | transformers s | ratio | relative error | share of matrix rate |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.case} | {row.tokens} | {row.tokens / row.ours_s:.0f} | {row.ours_s:.3f} | {row.theirs_s:.3f}"
            f" | {row.speedup:.2f} | {row.relative_error:.1e} | {row.matrix_rate_share:.0%} |"
        )
    print(f"\nGeometric mean of the ratios: {mean:.2f}")


if __name__ == "__main__":
    main()
