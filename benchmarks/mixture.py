"""The likelihood of a mixture: several models' p(x), averaged image by image.

    pixelvae-evaluate --pretrained=NAME --data_dir=DATA --num_images=1000 --importance_samples=50 --output=FOLDER
    python benchmarks/mixture.py FOLDER FOLDER ...

Reads the tables that `pixelvae-evaluate --output` wrote of the same images, and prints what the mixture with equal
weights needs, and how much less that is than what each of its models needs. As each has a lower bound of its log p(x),
so has the mixture: -log p(x) <= log K - log sum_k exp(-b_k), with the importance-weighted b_k where a table has them.
"""

import json
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import app


def read(folder: pathlib.Path) -> tuple[dict, np.ndarray]:
    """The report of an evaluation, and what each image costs by its tightest bound: [N], nats."""
    report = json.loads((folder / "report.json").read_text())
    table = np.genfromtxt(folder / "bounds.csv", delimiter=",", names=True)
    tightest = "importance_weighted_nats"
    return report, table[tightest if tightest in table.dtype.names else "bound_nats"]


def mix(nats: np.ndarray) -> np.ndarray:
    """What the images cost under the mixture.

    Args:
      nats: [K, N], of each model.

    Returns:
      [N].
    """
    return np.log(len(nats)) - np.logaddexp.reduce(-nats, axis=0)


def _line(nats: np.ndarray) -> str:
    return f"{nats.mean():.2f} ± {nats.std(ddof=1) / len(nats) ** 0.5:.2f}"


def main(argv: Sequence[str]) -> None:
    """Prints a table in Markdown: a line a model, then the mixture."""
    folders = [pathlib.Path(folder) for folder in argv[1:]]
    if len(folders) < 2:
        raise app.UsageError(f"At least two folders of pixelvae-evaluate --output must be given. Received: {argv[1:]}")
    reports, nats = zip(*map(read, folders), strict=True)
    for folder, report in zip(folders, reports, strict=True):
        if any(report["identity"][key] != reports[0]["identity"][key] for key in ("data", "files")):
            raise app.UsageError(
                f"All models must be evaluated on the same images. Received: {reports[0]['data']} in {folders[0]}, "
                f"{report['data']} in {folder}"
            )
    mixed = mix(np.stack(nats))
    print(f"{reports[0]['data']}\n\n| model | importance samples | nats | the mixture's gain |\n|---|---|---|---|")
    for folder, report, own in zip(folders, reports, nats, strict=True):
        samples = "exact" if report["exact"] else report.get("importance_samples", 0)
        print(f"| {folder.name} | {samples} | {_line(own)} | {_line(own - mixed)} |")
    print(f"| the mixture | | **{_line(mixed)}** | |")


if __name__ == "__main__":
    app.run(main)
