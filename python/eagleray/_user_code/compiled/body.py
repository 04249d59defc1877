"""The body of a request: read, taken apart as FastAPI does by its content type, and validated."""

from __future__ import annotations

import email.message
import json
from functools import lru_cache
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from eagleray._json import loads
from eagleray._user_code.compiled import framework
from eagleray._user_code.compiled.parameters import Field, take
from eagleray._user_code.compiled.run import Run

_loads = json.loads
_own_body = Request.body


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    message = email.message.Message()
    message["content-type"] = content_type
    if message.get_content_maintype() != "application":
        return False
    subtype = message.get_content_subtype()
    return subtype == "json" or subtype.endswith("+json")


def _content_type(run: Run) -> str | None:
    for name, value in run.scope["headers"]:
        if name == b"content-type":
            return value.decode("latin-1")  # type: ignore[no-any-return]
    return None


async def read(run: Run) -> None:
    """Reads the body into `run.body`.

    Raises:
        RequestValidationError: it is no JSON, although it says so.
        HTTPException: it cannot be read, or not be parsed.
    """
    plan = run.plan
    try:
        if plan.is_form:
            run.body = await run.request.form()
            run.files.push_async_callback(run.body.close)
            return
        # As with JSON: some programs put a function of their own in the place of Starlette's.
        is_own = Request.body is _own_body
        raw = run.exchange.whole_body() if is_own else await run.request.body()
        if raw is None:
            raw = await _receive(run)
        run.raw = raw
        if not raw:
            return
        content_type = _content_type(run)
        if (not plan.strict) if not content_type else _is_json(content_type):
            # Some programs put another parser in the place of the library's; it is the one that they want.
            run.body = run.json = (loads if json.loads is _loads else json.loads)(raw)
        else:
            run.body = raw
    except json.JSONDecodeError as error:
        wrong = {
            "type": "json_invalid",
            "loc": ("body", error.pos),
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": error.msg},
        }
        raise validation_error(run, [wrong], error.doc) from error
    except HTTPException:
        raise
    except Exception as error:
        raise HTTPException(status_code=400, detail=_UNREADABLE) from error


_UNREADABLE = "There was an error parsing the body"


async def _receive(run: Run) -> bytes:
    """The body, in as many pieces as it comes; what the request has of it afterwards is what FastAPI leaves there."""
    receive, parts = run.exchange.receive, []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            run.request._is_disconnected = True
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def validation_error(run: Run, errors: list[Any], body: Any) -> Exception:
    """What FastAPI raises for errors in a request."""
    return framework.RequestValidationError(
        errors, body=None if body is framework.Undefined else body, endpoint_ctx=endpoint_context(run)
    )


def endpoint_context(run: Run) -> Any:
    """Where the endpoint is, as FastAPI puts it into its errors."""
    found: Any = framework.endpoint_context(run.plan.endpoint)
    if run.plan.path_format:
        mounted = run.scope.get("root_path", "").rstrip("/")
        found["path"] = f"{run.scope['method']} {mounted}{run.plan.path_format}"
    return found


class Body:
    """The fields of a body that one function takes."""

    __slots__ = ("aliases", "fields", "is_single")

    def __init__(self, fields: list[Any], embed: bool) -> None:
        self.fields = [Field(field, "body") for field in fields]
        self.is_single = len(fields) == 1 and not embed and not framework.should_embed(fields)
        self.aliases = [[alias for alias, _ in framework.aliases_of(field)] for field in fields]
        for field, aliases in zip(self.fields, self.aliases, strict=True):
            field.loc = ("body",) if self.is_single else ("body", aliases[0])

    def collect(self, body: Any, values: dict[str, Any], errors: list[Any]) -> None:
        """Adds the values to `values`; those that are not valid to `errors`."""
        if self.is_single:
            field = self.fields[0]
            if body is framework.Undefined:
                field.missing(values, errors)
            else:
                take(field, body, values, errors)
            return
        for field, aliases in zip(self.fields, self.aliases, strict=True):
            value = framework.Undefined
            loc = ("body", aliases[0])
            if body is not framework.Undefined and not isinstance(body, bytes):
                try:
                    for alias in aliases:
                        value = body.get(alias, framework.Undefined)
                        if value is not framework.Undefined:
                            loc = ("body", alias)
                            break
                except AttributeError:
                    errors.append(framework.missing_error(loc=loc))
                    continue
            if value is framework.Undefined:
                field.missing(values, errors)
            elif loc == field.loc:
                take(field, value, values, errors)
            else:
                found, wrong = field.field.validate(value, values, loc=loc)
                if wrong:
                    errors += wrong
                else:
                    values[field.name] = found
