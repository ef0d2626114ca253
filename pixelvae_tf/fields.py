"""Fields of configs with their ranges, checked by pydantic; its errors become one message that names the field.

A scalar's range stands beside its default, where ml_collections' flags still see a plain type. An item's range is part
of a tuple's type.

@config_dataclass
class TopConfig(Part):
    network: Literal["top"] = "top"
    num_layers: int = count(2, most=MAX_LAYERS)
    widths: tuple[Width, ...] = (32, 64)
    dropout: float = share(0.0)
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from pixelvae_tf.limits import BELOW_ONE, MAX_COUNT, MAX_FLOAT, MAX_NATS, MAX_SIDE, MAX_WIDTH, MIN_FLOAT
from pixelvae_tf.suggestions import did_you_mean

__all__ = [
    "Count",
    "Nats",
    "Part",
    "Side",
    "Width",
    "check",
    "config_dataclass",
    "count",
    "number",
    "one_of",
    "share",
    "switch",
]

_Class = TypeVar("_Class", bound=type)
_Kind = TypeVar("_Kind")


def _check_size(value: Any) -> Any:
    """Refuses numbers that float32 would take for 0, which may mean "none"."""
    if isinstance(value, float) and 0 < abs(value) < MIN_FLOAT:
        raise ValueError(f"must be 0 or at least {MIN_FLOAT}")
    return value


# The items of tuples: steps, costs of a level, channels, and sides of images.
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
Nats = Annotated[float, Field(strict=True, ge=0, le=MAX_NATS, allow_inf_nan=False), AfterValidator(_check_size)]
Width = Annotated[int, Field(strict=True, ge=1, le=MAX_WIDTH)]
Side = Annotated[int, Field(strict=True, ge=1, le=MAX_SIDE)]


def count(default: int, least: int = 0, most: int = MAX_COUNT) -> Any:
    """A field for an integer in least..most."""
    return Field(default, strict=True, ge=least, le=most)


def number(default: float, least: float = 0.0, most: float = MAX_FLOAT) -> Any:
    """A field for a floating-point number in least..most."""
    return Field(default, strict=True, ge=least, le=most, allow_inf_nan=False)


def share(default: float, least: float = 0.0) -> Any:
    """A field for a number in [least, 1) that float32 does not round to 1."""
    return number(default, least, BELOW_ONE)


def switch(default: bool) -> Any:
    """A field for True or False."""
    return Field(default, strict=True)


def one_of(default: str, *others: str) -> Any:
    """A field for one of a few words."""
    return Field(default, pattern=f"^({'|'.join((default, *others))})$")


@dataclass_transform()
def config_dataclass(cls: _Class) -> _Class:
    """Makes a class a part of a config: its fields are checked in the constructor, and by `check`."""
    # A config is data that may change after it was made: instances are checked again where they are used.
    decorate: Any = pydantic.dataclasses.dataclass(config=ConfigDict(revalidate_instances="always"), slots=True)
    part = decorate(cls)
    init, names = part.__init__, [field.name for field in dataclasses.fields(part)]

    @functools.wraps(init)
    def checked(self: Any, *values: Any, **named: Any) -> None:
        try:
            init(self, *values, **named)
        except pydantic.ValidationError as errors:
            raise ValueError(_message(errors, cls.__name__, names)) from None

    part.__init__ = checked
    return part


@config_dataclass
class Part:
    """What the parts of a config have in common."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values if isinstance(values, dict) else getattr(values, "kwargs", None) or ():
            if name not in names:
                meant = did_you_mean(str(name), names)
                raise ValueError(f"has no field {name!r}{meant}; its fields are {', '.join(names)}")
        return values

    _check_size = field_validator("*")(_check_size)


# What is expected, by the kind of error; of the other kinds pydantic's words are kept.
_EXPECTED = {
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "list_type": "must be a list",
    "missing": "must be given",
    "model_attributes_type": "must be the config of a network",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "tuple_type": "must be a list",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "must have the field {discriminator}",
}


def check(kind: type[_Kind], value: Any, where: str) -> _Kind:
    """Checks a part of a config: JSON's, or one that was put together in Python.

    Args:
      kind: its type, a config dataclass or another that pydantic knows.
      value: an instance, or a dictionary of its fields; a list may stand for a tuple, and an integer for a float.
      where: its name, for messages.

    Returns:
      A copy, in which everything is of the declared type.

    Raises:
      ValueError: for the first field that is unknown, of another type or out of its range.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(value)
    except pydantic.ValidationError as errors:
        raise ValueError(_message(errors, where)) from None


def _message(errors: pydantic.ValidationError, where: str, names: Sequence[str] = ()) -> str:
    """What is wrong first with a value, or with the arguments of a class whose fields have these names."""
    error = errors.errors(include_url=False)[0]
    for place, key in enumerate(error["loc"]):
        if place == 0 and names and isinstance(key, int):
            key = names[key]
        where += f"[{key}]" if isinstance(key, int) else f".{key}"
    context = error.get("ctx", {})
    if error["type"] == "string_pattern_mismatch":
        words = context["pattern"].strip("^()$").split("|")
        expected = f"must be one of {', '.join(word or 'nothing' for word in words)}"
    elif error["type"] in _EXPECTED:
        expected = _EXPECTED[error["type"]].format(**context)
    else:
        expected = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return f"{where} {expected}. Received: {_shown(error['input'])}"


def _shown(value: Any) -> str:
    """A value for a message; Python refuses to write integers of thousands of digits."""
    value = getattr(value, "kwargs", value)  # of a call
    long = isinstance(value, int) and value.bit_length() > 1000
    return f"an integer of {value.bit_length()} bits" if long else repr(value)
