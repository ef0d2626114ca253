"""What other libraries' errors say, in our messages."""

import re


def first_line(error: BaseException) -> str:
    """The message of an error without what follows it: places in a graph, requests, advice."""
    return str(error).strip().partition("\n")[0]


def assertion(error: BaseException) -> str:
    """What an assertion in a graph says, of all that TensorFlow says of it; of another error the first line."""
    said = re.search(r"assertion failed: \[(.*?)\]", str(error))
    return said[1] if said else first_line(error)
