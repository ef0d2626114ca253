"""What somebody may have meant by a name that does not exist."""

import difflib
from collections.abc import Iterable

# A list is to be read at a glance.
SHOWN = 3


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Names close to one, or ending as it does, for the end of a message: "; did you mean a, b?", or empty.

    did_you_mean("stpes", ["train.steps", "train.seed"])  # '; did you mean train.steps?'
    """
    names = list(names)
    ends = {known: known.rpartition(".")[2].lstrip("-") for known in names}
    end = name.rpartition(".")[2].lstrip("-")
    found = [known for known in names if ends[known] == end]
    if not found:
        close = difflib.get_close_matches(end, set(ends.values()), SHOWN, cutoff=0.7)
        found = [known for best in close for known in names if ends[known] == best]
        found += [known for known in difflib.get_close_matches(name, names, SHOWN) if known not in found]
    return f"; did you mean {', '.join(found[:SHOWN])}?" if found else ""
