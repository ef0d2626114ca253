"""Renders a card as a page of Markdown: for people, for TensorFlow Serving's folder, and for the hubs."""

import pathlib
import re
from typing import Any

# TensorFlow Serving ignores these files of a SavedModel; people and `pixelvae-model` read them.
CARD = pathlib.Path("assets.extra") / "pixelvae_tf.json"
PAGE = pathlib.Path("assets.extra") / "model_card.md"
# By whether a training continued in the workdir of the previous one.
_START = {
    False: "It started with the best weights",
    True: "It went on in the same workdir, with the optimizer's state, from the last weights",
}
NOT_EVALUATED = "Not evaluated: `{}` gives the bound."
TASK = "unconditional-image-generation"


def page(card: dict) -> str:
    """A model card.

    Args:
      card: what `export.card.make_card` and `export.card.describe` know; what is of the run, or of serving it, may be
        missing. A "note" stands above all numbers.

    Returns:
      Markdown.
    """
    note = [card["note"]] if card.get("note") else []
    parts = [f"# {card['name']}", _summary(card), *note, _table(["", ""], _facts(card))]
    if "evaluations" in card:
        parts += ["## Evaluation", *_evaluation(card)]
    if "signatures" in card:
        parts += ["## Signatures", "The first dimension B is the batch.", _signatures(card)]
    if card.get("commands"):
        parts += ["## Commands", *_commands(card["commands"], card.get("lineage", []))]
    return "\n\n".join(parts) + "\n"


def hub_page(card: dict) -> str:
    """The same with the block of metadata that a hub reads: library, task, and the evaluations as its results.

    [1] https://huggingface.co/docs/hub/model-cards
    """
    import yaml  # a page of an export does without

    tags = ["keras", "pixelvae", "tensorflow"]
    metadata: dict[str, Any] = {"library_name": "pixelvae_tf", "pipeline_tag": TASK, "tags": tags}
    if results := [result for report in card.get("evaluations", []) for result in _results(report)]:
        metadata["model-index"] = [{"name": card["name"], "results": results}]
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n\n{page(card)}"


def _results(report: dict) -> list[dict]:
    """A report as the hub lists results: the data set with its binarization and split, and the values."""
    name, _, split = report["data"].rpartition("/")
    if ", " in split:  # "test, 1000 images of 10000": the hub would take it for the whole
        return []
    dataset = {
        "type": re.sub(r"[^\w.-]+", "_", name),
        "name": name,
        "config": f"binarization: {report['binarization']}",
        "split": split,
    }
    kind = "exact negative log-likelihood" if report["exact"] else "bound (negative ELBO)"
    metrics = [
        {"type": "bound_nats", "name": f"{kind}, nats per image", "value": report["bound_nats"]},
        {"type": "bound_bpd", "name": f"{kind}, bits per dimension", "value": report["bound_bpd"]},
    ]
    if "importance_samples" in report:
        samples = report["importance_samples"]
        metrics.append(
            {
                "type": "importance_weighted_nats",
                "name": f"importance-weighted bound ({samples} samples), nats per image",
                "value": report["importance_weighted_nats"],
                "args": {"importance_samples": samples},
            }
        )
    task = {"type": TASK, "name": "Density estimation"}
    return [{"task": task, "dataset": dataset, "metrics": metrics}]


def _summary(card: dict) -> str:
    if "signatures" not in card:
        return (
            "Weights for the Python package pixelvae_tf: `pixelvae_tf.PixelVAE.from_preset(NAME)`, or "
            "`--pretrained=NAME` of its commands. NAME is this folder, its `hf://` or `kaggle://` handle, or, for "
            "weights that come with the package, the title of this page."
        )
    server = (
        "Its numbers are computed by XLA: on the CPU, TensorFlow Serving takes it only with "
        "`--xla_cpu_compilation_enabled`."
        if card["xla"]
        else "It holds TensorFlow's own operations alone: no XLA, no Python, no custom operation."
    )
    return f"A SavedModel of the PixelVAE family, written and checked by pixelvae-export. {server}"


def _facts(card: dict) -> list[list[str]]:
    rows = []
    if "config" in card:
        model = card["config"]["model"]
        height, width, channels = model["image_shape"]
        levels = ", ".join("x".join(map(str, _shape(level))) for level in model["levels"])
        data = card.get("data", {})
        if data:
            rows.append(["data", f"{data['name']}; binarization: {data['binarization']}"])
        rows += [
            ["images", f"{height}x{width}x{channels}, values 0..{model['num_values'] - 1}"],
            ["latents", levels or "none"],
            ["network over the pixels", model["pixels"]["network"]],
            ["classes", _classes(model["num_classes"], data.get("classes", []))],
        ]
    if "step" in card:
        rounded = f", rounded to {card['rounded_to']}" if "rounded_to" in card else ""
        rows.append(["step", f"{card['step']}, {card['weights']} weights (averaged){rounded}"])
    versions = ", ".join(f"{package} {version}" for package, version in card["versions"].items())
    rows.append(["weights", f"{card['num_weights']:,}, fingerprint {card['fingerprint']}"])
    if "dtype" in card:  # cards of earlier versions do not say
        rows.append(["computed in", card["dtype"]])
    if "signatures" in card:
        rows += [
            ["largest batch", str(card["max_batch"])],
            *([["parts of a batch, side by side", str(card["xla_parts"])]] if card["xla"] else []),
            ["rounds of completion", str(card["completion_rounds"])],
            ["warmed up with batches of", ", ".join(map(str, card["warmup"])) or "none"],
        ]
    return [*rows, ["versions", versions]]


def _classes(number: int, names: list[str]) -> str:
    """The number of classes and, if they have names, the label of each."""
    named = ", ".join(f"{label} {name!a}" for label, name in enumerate(names))
    return f"{number}: {named}" if named else str(number or "none")


def _shape(level: dict) -> list[int]:
    return [level["dim"]] if tuple(level["grid"]) == (1, 1) else [*level["grid"], level["dim"]]


def _evaluation(card: dict) -> list[str]:
    if not card["evaluations"]:
        return [NOT_EVALUATED.format(card["commands"].get("evaluate", "pixelvae-evaluate --workdir=WORKDIR"))]
    rows = [row for report in card["evaluations"] for row in _values(report)]
    head = ["data", "binarization", "images", "of", "value", "importance samples", "nats", "bits/dim"]
    usage = [line for report in card["evaluations"] if (line := _usage(report))]
    return ["Negative log-likelihoods of an image, and bounds on them: smaller is better.", _table(head, rows), *usage]


def _usage(report: dict) -> str:
    """What the model uses, in one line; empty for a report of an earlier version."""
    if "usage_preceding_nats" not in report:
        return ""
    parts = [f"{report['usage_preceding_nats']:.1f} for the pixels before each pixel"]
    for level, nats in enumerate(report["usage_latents_nats"], start=1):
        parts.append(f"{nats:.1f} for the latents of level {level}")
    return f"What it uses, in nats lost when they are another image's ({report['data']}): {', '.join(parts)}."


def _values(report: dict) -> list[list[str]]:
    """The rows of a report: its bound, and the importance-weighted one if there is one."""

    def row(value: str, samples: str, key: str, error: str) -> list[str]:
        nats = f"{report[f'{key}_nats']:.2f}"
        if report[error] is not None:  # a single image has none
            nats += f" ± {report[error]:.2f}"
        of = [report["data"], report["binarization"], f"{report['num_images']:,}", report["of"]]
        return [*of, value, samples, nats, f"{report[f'{key}_bpd']:.3f}"]

    rows = [row("exact" if report["exact"] else "bound (negative ELBO)", "none", "bound", "bound_standard_error")]
    if "importance_samples" in report:
        samples = str(report["importance_samples"])
        key = "importance_weighted"
        rows.append(row("importance-weighted bound", samples, key, f"{key}_standard_error"))
    return rows


def _signatures(card: dict) -> str:
    def tensors(specs: dict[str, dict]) -> str:
        return "; ".join(
            f"{name} {spec['dtype']} [{', '.join('B' if size is None else str(size) for size in spec['shape'])}]"
            for name, spec in specs.items()
        )

    rows = [
        [f"`{name}`", tensors(signature["inputs"]), tensors(signature["outputs"])]
        for name, signature in card["signatures"].items()
    ]
    return _table(["signature", "in", "out"], rows)


def _commands(commands: dict[str, str | None], lineage: list[dict]) -> list[str]:
    train = commands["train"]
    earlier = [
        part
        for training in lineage
        for part in (
            f"{_START[training.get('same_run', False)]} (step {training['step']}, fingerprint "
            f"{training['fingerprint']}) of",
            f"```sh\n{training['command'] or '# no preset and flags make its config'}\n```",
        )
    ]
    config_of_run = (
        ["The run's config is what this command gives:", f"```sh\n{train}\n```"]
        if train
        else ["No preset becomes the run's config by flags; the config is in the JSON file beside this page."]
    )
    exported = ["Exported by", f"```sh\n{commands['export']}\n```"] if "export" in commands else []
    order = [
        "The trainings, first to last: give each a workdir of its own, and the weights of the one before it for "
        "`--config.train.initial_weights`, whatever they were called then."
    ]
    return [*(order if lineage else []), *earlier, *config_of_run, *exported]


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; pipes in cells are escaped."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
