"""The base of configuration objects: keyword arguments, each with a default and a check, unknown ones refused.

A subclass states its options in its body, `min_replicas: int = option(integer(minimum=0), default=1)`, and overrides
`_check_together` for rules across options. Values are checked when the object is made and at every assignment. Of
pydantic's face it has what users of Ray Serve's models call: `model_dump`, `dict`, `model_validate`, `parse_obj`,
`model_fields_set`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

from eagleray._shortened import shortened
from eagleray.serve import _old_names, _validate

#: Takes the option's full name and a value, and returns the value to keep.
Check = Callable[[str, Any], Any]


class _Required:
    def __repr__(self) -> str:
        return "<required>"


REQUIRED: Any = _Required()


class _Option(NamedTuple):
    default: Any
    check: Check
    optional: bool


def option(check: Check, *, default: Any = REQUIRED, optional: bool = False) -> Any:
    """One option of a model. With `optional`, None passes unchecked. A default that is a type is called."""
    return _Option(default, check, optional)


def integer(*, minimum: int, maximum: int | None = None) -> Check:
    """Checks for an int within bounds."""
    return lambda name, value: _validate.integer(name, value, minimum=minimum, maximum=maximum)


def number(*, positive: bool, maximum: float = float("inf")) -> Check:
    """Checks for a finite number."""
    return lambda name, value: _validate.number(name, value, positive=positive, maximum=maximum)


def choice(enum: type[Enum]) -> Check:
    """Checks for a member of an enum, or its value."""
    return lambda name, value: _validate.one_of(name, value, enum)


def list_of(check: Check) -> Check:
    """Checks for a list or tuple, and each element."""

    def checked(name: str, value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise _validate.invalid(name, f"{name} must be a list, got {value!r}", value)
        return [check(f"{name}[{index}]", element) for index, element in enumerate(value)]

    return checked


def dict_of(check: Check) -> Check:
    """Checks for a dict with strings as keys, and each value."""

    def checked(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise _validate.invalid(name, f"{name} must be a dict with strings as keys, got {value!r}", value)
        return {key: check(f"{name}[{key!r}]", item) for key, item in value.items()}

    return checked


def string(name: str, value: Any) -> str:
    """Checks for any string."""
    if not isinstance(value, str):
        raise _validate.invalid(name, f"{name} must be a string, got {value!r}", value)
    return value


def anything(name: str, value: Any) -> Any:
    """Checks nothing."""
    return value


def json_object(name: str, value: Any) -> dict[str, Any]:
    """Checks for a dict that can go as JSON."""
    checked: dict[str, Any] = dict_of(anything)(name, value)
    _validate.json_value(name, checked)
    return checked


@dataclass_transform(kw_only_default=True, field_specifiers=(option,))
class Model:  # noqa: PLW1641 - what can be changed has no hash
    """A configuration object."""

    _options: ClassVar[dict[str, _Option]] = {}
    #: How messages name the object; by default its class.
    _called: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = {name: value for name, value in vars(cls).items() if isinstance(value, _Option)}
        cls._options = {**cls._options, **own}
        for name in own:
            delattr(cls, name)
        cls._called = vars(cls).get("_called", cls.__name__)

    @shortened
    def __init__(self, **given: Any) -> None:
        given = _old_names.today(self._called, given)
        _validate.unknown_keys(self._called, given, self._options)
        kept = vars(self)
        for name, known in self._options.items():
            if name in given:
                kept[name] = self._check(name, given[name])
            elif known.default is REQUIRED:
                raise _validate.invalid(name, f"{self._called} needs {name}")
            else:
                kept[name] = known.default() if isinstance(known.default, type) else known.default
        kept["_given"] = frozenset(given)
        self._check_together()

    def _check(self, name: str, value: Any) -> Any:
        known = self._options[name]
        if value is None and known.optional:
            return None
        return known.check(f"{self._called}.{name}", value)

    def _check_together(self) -> None:
        """Rules across options; raises what `_validate.invalid` returns."""

    @shortened
    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._options:
            _validate.unknown_keys(self._called, [name], self._options)
        kept = vars(self)
        before = dict(kept)
        kept[name] = self._check(name, value)
        kept["_given"] = kept["_given"] | {name}
        try:
            self._check_together()
        except BaseException:
            kept.update(before)
            raise

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._options)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._options)
        return f"{type(self).__name__}({values})"

    @property
    def model_fields_set(self) -> set[str]:
        """Names of the options that were given, rather than left at their defaults."""
        return set(vars(self)["_given"])

    def model_dump(self, *, exclude_unset: bool = False) -> dict[str, Any]:
        """The options as a dict, nested ones too; with `exclude_unset` only those that were given."""
        names = [name for name in self._options if not exclude_unset or name in self.model_fields_set]
        return {name: _dumped(getattr(self, name), exclude_unset) for name in names}

    def dict(self, *, exclude_unset: bool = False) -> dict[str, Any]:
        """As `model_dump`."""
        return self.model_dump(exclude_unset=exclude_unset)

    @classmethod
    @shortened
    def model_validate(cls, value: Any) -> Self:
        """The object for a dict; an object of this class is returned as it is.

        Raises:
            ValueError: a key is not known, or a value out of range; `pydantic.ValidationError` where that is imported.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, dict):
            value = _old_names.today(cls._called, value)
            _validate.unknown_keys(cls._called, value, cls._options)
            return cls(**value)
        raise _validate.invalid(cls._called, f"{cls._called} must be a {cls.__name__} or a dict, got {value!r}", value)

    @classmethod
    @shortened
    def parse_obj(cls, value: Any) -> Self:
        """As `model_validate`."""
        return cls.model_validate(value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """A copy, with changes."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**given, **(update or {})})


def _dumped(value: Any, exclude_unset: bool) -> Any:
    if isinstance(value, Model):
        return value.model_dump(exclude_unset=exclude_unset)
    if isinstance(value, list):
        return [_dumped(element, exclude_unset) for element in value]
    if isinstance(value, dict):
        return {key: _dumped(item, exclude_unset) for key, item in value.items()}
    return value.value if isinstance(value, Enum) else value


def nested(model: type[Model]) -> Check:
    """Checks for an object of `model`, or a dict for one."""
    return lambda name, value: model.model_validate(value)
