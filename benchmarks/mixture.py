"""The likelihood of a mixture: several models' p(x), averaged image by image.

    pixelvae-evaluate --pretrained=NAME --data_dir=DATA --num_images=1000 --importance_samples=50 --output=FOLDER
    python benchmarks/mixture.py FOLDER FOLDER ...

Reads the tables that `pixelvae-evaluate --output` wrote of the same images, and prints what the mixture with equal
weights needs, and how much less that is than what each of its models needs. Models with latents must have importance
samples: those estimate p(x) without bias, as the mean over models then does, so that its logarithm is on average no
higher than log p(x). Of negative ELBOs that is not so: the noise in them would pass for a gain.
"""

import json
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import app

from pixelvae_tf.train.evaluation_files import REPORT, TABLE


def read(folder: pathlib.Path) -> tuple[dict, np.ndarray]:
    """The report of an evaluation, and what each image costs, exact or importance-weighted: [N], nats."""
    report = json.loads((folder / REPORT).read_text())
    if not report["exact"] and not report["identity"]["importance_samples"]:
        raise app.UsageError(
            "A model with latents must be evaluated with --importance_samples to be mixed. "
            f"Received: its negative ELBO alone, in {folder}"
        )
    table = np.genfromtxt(folder / TABLE, delimiter=",", names=True)
    return report, table["bound_nats" if report["exact"] else "importance_weighted_nats"]


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
        samples = "exact" if report["exact"] else report["identity"]["importance_samples"]
        print(f"| {folder.name} | {samples} | {_line(own)} | {_line(own - mixed)} |")
    print(f"| the mixture | | **{_line(mixed)}** | |")


if __name__ == "__main__":
    app.run(main)
