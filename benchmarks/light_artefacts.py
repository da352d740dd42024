"""What float8_e4m3 and int8 tokens lose and save: error and bytes against the float32 that the tower gives.

    python benchmarks/light_artefacts.py                       # random weights of full size, about a minute
    python benchmarks/light_artefacts.py --model /models/tower # real ones: these are the figures that count for you

Errors are of whole tokens: the length of the difference over the length of the token. Trained towers have a few numbers
that stand far out, which random weights have not; the last rows stand for those, with numbers of a Student
distribution of three degrees of freedom, and with one number in a thousand made a hundred times as large.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from torch import Tensor

from examples.render_samples import write_coast, write_fruit
from glm4v_client.artefact import ArtefactHeader
from glm4v_client.states import MediaKind
from glm4v_core.embedding_pipeline import load_pipeline
from glm4v_core.quantization import quantize_rows, restore_rows

DTYPES = ("bfloat16", "float8_e4m3", "int8")
SYNTHETIC_TOKENS = 2048


def main() -> None:
    arguments = parse_arguments()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {arguments.model}")
    print(f"{'tokens':<34}{'dtype':<14}{'bytes/token':>12}{'mean error':>12}{'worst error':>12}{'worst cosine':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for name, tokens in samples(arguments.model, arguments.pictures or rendered(Path(folder))):
            for dtype in DTYPES:
                report(name, tokens, dtype)


def rendered(folder: Path) -> list[Path]:
    write_coast(folder / "coast.jpg")
    write_fruit(folder / "fruit.png")
    return [folder / "coast.jpg", folder / "fruit.png"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random:full", help="directory, hub id or random:full")
    parser.add_argument("pictures", nargs="*", type=Path, help="to embed; two rendered ones if none are named")
    return parser.parse_args()


def samples(model: str, pictures: list[Path]) -> list[tuple[str, Tensor]]:
    """Float32 tokens, each by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = load_pipeline(model, dtype=torch.float32)
    pipeline.image_processor = pipeline.image_processor.with_options(max_pixels=200_000)
    with torch.inference_mode():
        found = [(path.name, pipeline.extract_image_embeddings(path, return_dict=False)) for path in pictures]
    shape, generator = (SYNTHETIC_TOKENS, pipeline.config.out_hidden_size), torch.Generator().manual_seed(0)
    # A Student's number is a normal one over the root of a mean of squares.
    student = (
        torch.randn(shape, generator=generator) / torch.randn(3, *shape, generator=generator).square().mean(0).sqrt()
    )
    outliers = torch.randn(shape, generator=generator)
    outliers[torch.rand(shape, generator=generator) < 1e-3] *= 100
    return [*found, ("Student, 3 degrees", student), ("1 number of 1000 x 100", outliers)]


def report(name: str, tokens: Tensor, dtype: str) -> None:
    restored = (tokens.bfloat16() if dtype == "bfloat16" else restore_rows(*quantize_rows(tokens, dtype))).float()
    errors = (restored - tokens).norm(dim=1) / tokens.norm(dim=1)
    cosine = F.cosine_similarity(restored.double(), tokens.double()).min()
    print(
        f"{name[:32]:<34}{dtype:<14}{bytes_per_token(tokens, dtype):>12,.0f}{errors.mean():>12.3%}"
        f"{errors.max():>12.3%}{cosine:>14.6f}"
    )


def bytes_per_token(tokens: Tensor, dtype: str) -> float:
    header = ArtefactHeader(
        kind=MediaKind.IMAGE,
        model="",
        fingerprint="",
        content_sha256="",
        dtype=dtype,
        num_tokens=len(tokens),
        dim=tokens.shape[1],
        grid_thw=(1, 2, 2 * len(tokens)),
    )
    return (header.embeddings_bytes + header.scales_bytes) / len(tokens)


if __name__ == "__main__":
    main()
