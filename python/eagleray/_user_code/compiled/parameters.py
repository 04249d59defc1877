"""Parameters of path, query, headers and cookies: taken out of a request and validated.

Those of one value are done here. Models and whatever takes several values go through FastAPI's own function, one field
at a time, so that values and errors come in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pydantic import ValidationError
from pydantic_core import SchemaValidator

from eagleray._user_code.compiled import framework

_SIMPLE = (type(None), str, int, float, bool)
_MISSING = framework.Undefined


class Field:
    """One field, with what is the same at every request."""

    __slots__ = ("default", "field", "is_required", "key", "loc", "name", "validate", "whole")

    def __init__(self, field: Any, place: str) -> None:
        info = field.field_info
        self.field = field
        self.name: str = field.name
        aliases = framework.aliases_of(field)
        self.key: str = aliases[0][1]
        # FastAPI's own function: a model, several names, or several values.
        self.whole = framework.model_of(field) is not None or len(aliases) != 1 or framework.takes_several(field)
        self.loc: tuple[str, ...] = (place, self.key)
        self.is_required: bool = info.is_required()
        self.default = _constant(field)
        self.validate = validator_of(field)

    def missing(self, values: dict[str, Any], errors: list[Any]) -> None:
        """It was not sent."""
        if self.is_required:
            errors.append(framework.missing_error(loc=self.loc))
        elif self.default is not _MISSING:
            values[self.name] = self.default
        else:
            value = deepcopy(self.field.default)
            if self.field.field_info.validate_default:
                take(self, value, values, errors)
            else:
                values[self.name] = value


def validator_of(field: Any) -> Callable[..., Any]:
    """What validates a value: pydantic's own, without what is around it where that does nothing."""
    validator = field._type_adapter.validator
    return validator.validate_python if type(validator) is SchemaValidator else field._type_adapter.validate_python


def _constant(field: Any) -> Any:
    """The default, if it is always the same and cannot be changed."""
    info = field.field_info
    if info.is_required() or info.default_factory is not None or info.validate_default:
        return _MISSING
    default = info.get_default(call_default_factory=False)
    return default if type(default) in _SIMPLE else _MISSING


def take(field: Field, value: Any, values: dict[str, Any], errors: list[Any]) -> None:
    """Validates a value into `values`, or into `errors`."""
    try:
        values[field.name] = field.validate(value, from_attributes=True)
    except ValidationError as error:
        errors += framework.with_location(errors=error.errors(include_url=False), loc_prefix=field.loc)


class Parameters:
    """Those of one function."""

    __slots__ = ("cookies", "headers", "is_empty", "path", "query")

    def __init__(self, dependant: Any) -> None:
        self.path = [Field(field, "path") for field in dependant.path_params]
        self.query = [Field(field, "query") for field in dependant.query_params]
        self.headers = [Field(field, "header") for field in dependant.header_params]
        self.cookies = [Field(field, "cookie") for field in dependant.cookie_params]
        self.is_empty = not (self.path or self.query or self.headers or self.cookies)

    def collect(self, request: Any, values: dict[str, Any], errors: list[Any]) -> None:
        """Adds the values to `values`; those that are not valid to `errors`."""
        for fields, source in (
            (self.path, "path_params"),
            (self.query, "query_params"),
            (self.headers, "headers"),
            (self.cookies, "cookies"),
        ):
            if fields:
                _collect(fields, getattr(request, source), values, errors)


def _collect(fields: list[Field], received: Any, values: dict[str, Any], errors: list[Any]) -> None:
    for field in fields:
        if field.whole:
            found, wrong = framework.parameter_values([field.field], received)
            values.update(found)
            errors += wrong
            continue
        value = received.get(field.key)
        if value is None:
            field.missing(values, errors)
        else:
            take(field, value, values, errors)
