"""Suggestions for names that do not exist."""

import difflib
from collections.abc import Iterable

# A list is to be read at a glance.
SHOWN = 3


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Names close to one, or ending as it does, for the end of a message: "; did you mean a, b?", or empty.

    did_you_mean("stpes", ["train.steps", "train.seed"])  # '; did you mean train.steps?'
    """
    names = list(names)
    ends = {candidate: candidate.rpartition(".")[2].lstrip("-") for candidate in names}
    end = name.rpartition(".")[2].lstrip("-")
    similar = [candidate for candidate in names if ends[candidate] == end]
    if not similar:
        close = difflib.get_close_matches(end, set(ends.values()), SHOWN, cutoff=0.7)
        similar = [candidate for best in close for candidate in names if ends[candidate] == best]
        similar += [
            candidate for candidate in difflib.get_close_matches(name, names, SHOWN) if candidate not in similar
        ]
    return f"; did you mean {', '.join(similar[:SHOWN])}?" if similar else ""
