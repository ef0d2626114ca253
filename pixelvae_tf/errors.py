"""What other libraries' errors say, in our messages."""


def first_line(error: BaseException) -> str:
    """The message of an error without what follows it: places in a graph, requests, advice."""
    return str(error).strip().partition("\n")[0]
