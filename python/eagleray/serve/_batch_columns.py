"""Arguments of a batch: many calls with single items become one call with a list for each parameter.

Calls of one shape (as many positional arguments, the same keywords) are turned over as they are. Calls of different
shapes in one batch are first bound to the signature, so that `f(1)` and `f(x=1)` meet in the same column; where some
callers leave an argument out, its default stands in their place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Columns:
    """What is known of the parameters of one batch function."""

    def __init__(self, function: Callable[..., Any], *, is_method: bool) -> None:
        """`is_method`: the first parameter is the instance, which has no column."""
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if is_method and parameters and parameters[0].kind in _POSITIONAL:
            parameters = parameters[1:]
        self.signature = signature.replace(parameters=parameters)
        self._name = function.__name__
        required_keywords = any(
            parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
            for parameter in parameters
        )
        positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
        # How many positional arguments are right by themselves; a call with keywords is always bound.
        self._least = sum(parameter.default is parameter.empty for parameter in positional)
        self._most = len(positional)
        if required_keywords:
            self._most = -1
        elif any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
            self._most = 255

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuses a call that the function itself would refuse.

        Raises:
            TypeError: as Python words it, with the function's name; for this caller only.
        """
        if not kwargs and self._least <= len(args) <= self._most:
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}(): {error}; a caller passes one item for each parameter") from None

    def of(self, calls: Sequence[Arguments]) -> tuple[list[list[Any]], dict[str, list[Any]]]:
        """The columns of calls that were checked: lists for positional and for keyword parameters.

        Raises:
            TypeError: calls with `*args` or `**kwargs` of different shapes, which have no columns.
        """
        args, kwargs = calls[0]
        count, names = len(args), kwargs.keys()
        if any(len(other) != count or keywords.keys() != names for other, keywords in calls):
            calls = [self._bound(*call) for call in calls]
            args, kwargs = calls[0]
            if any(len(other) != len(args) or keywords.keys() != kwargs.keys() for other, keywords in calls):
                raise TypeError(
                    f"callers of one batch gave {self._name}() different numbers of *args or different **kwargs; "
                    "such arguments have no column: give the function a parameter for each"
                )
        columns = [list(column) for column in zip(*(other for other, _ in calls), strict=True)]
        return columns, {name: [keywords[name] for _, keywords in calls] for name in kwargs}

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args, bound.kwargs
