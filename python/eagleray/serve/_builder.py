"""Application builders: functions that make an application from arguments, which a config file or a command line has.

`build_application` takes what an import path names: a bound `Application` as it is, or a builder to call.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

from eagleray.serve.deployment import Application, Deployment


def build_application(target: Any, args: Mapping[str, Any] | None = None, *, called: str = "") -> Application:
    """The application that `target` is or builds.

    A builder is a function with one parameter. It gets a dict, or, where the parameter is annotated with a pydantic
    model, that model made from the dict.

    Args:
        target: An `Application`, or a builder.
        args: The builder's arguments.
        called: How messages name the target, such as its import path.

    Raises:
        TypeError: `target` is neither, does not take exactly one parameter, or does not return an `Application`.
        ValueError: there are arguments for an application that is ready; or the model refuses them
            (`pydantic.ValidationError`).
    """
    args = dict(args or {})
    called = called or getattr(target, "__name__", type(target).__name__)
    if isinstance(target, Application):
        if args:
            raise ValueError(
                f"{called} is an application that is bound already, so it takes no arguments; got {', '.join(args)}. "
                "Make it a function with one parameter that returns the application"
            )
        return target
    if isinstance(target, Deployment):
        raise TypeError(f"{called} is a deployment, not an application: name the result of {target.name}.bind()")
    if not inspect.isfunction(target):
        raise TypeError(
            f"{called} must be an application, or a function with one parameter that returns one; got "
            f"{type(target).__name__}"
        )
    built = target(_argument(target, args, called))
    if not isinstance(built, Application):
        hint = ", not the deployment itself: end it with return deployment.bind(...)"
        raise TypeError(
            f"application builder {called} must return an Application{hint if isinstance(built, Deployment) else ''}; "
            f"got {type(built).__name__}"
        )
    return built


def _argument(builder: Any, args: dict[str, Any], called: str) -> Any:
    parameters = list(inspect.signature(builder).parameters.values())
    if len(parameters) != 1:
        raise TypeError(
            f"application builder {called} must take exactly one parameter, the dict (or pydantic model) of its "
            f"arguments; it takes {len(parameters)}"
        )
    parameter = parameters[0]
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
        raise TypeError(f"application builder {called} must take its one parameter by position, got {parameter}")
    annotation: Any
    try:
        annotation = typing.get_type_hints(builder).get(parameter.name)
    except Exception:  # a name that only type checkers see
        annotation = parameter.annotation
    if not _is_model(annotation):
        return args
    try:
        return annotation(**args)
    except ValueError as error:
        raise error.with_traceback(None) from None  # the model's own frames say nothing more


def _is_model(annotation: Any) -> bool:
    if not inspect.isclass(annotation):
        return False
    # Whoever wrote the annotation has imported pydantic.
    return any(base.__module__.startswith("pydantic.") and base.__name__ == "BaseModel" for base in annotation.__mro__)
