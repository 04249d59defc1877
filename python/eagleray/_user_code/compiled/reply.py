"""From what an endpoint returned to what is sent.

What comes out of most endpoints, plain data or what a response model makes of it, becomes bytes and two header fields,
without a `Response` in between. Everything else is the `Response` that FastAPI would make.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic_core import SchemaSerializer
from starlette.responses import Response

from eagleray import _core
from eagleray._user_code.compiled import framework
from eagleray._user_code.compiled.body import endpoint_context
from eagleray._user_code.compiled.parameters import validator_of
from eagleray._user_code.compiled.run import Run, in_thread

_JSON = (b"content-type", b"application/json")
_dumps = json.dumps
plain_json = _core.plain_json
_own_call = Response.__call__


class Answer:
    """How a route answers."""

    __slots__ = ("_dumps", "_field", "_is_plain", "_on_loop", "_options", "_to_json", "_validate", "kind", "status")

    def __init__(self, seen: Any, on_loop: bool) -> None:
        is_default = isinstance(seen.response_class, framework.DefaultPlaceholder)
        self.kind: Any = seen.response_class.value if is_default else seen.response_class
        self.status: int | None = seen.status_code
        self._on_loop = on_loop
        self._field = seen.response_field
        # Whether pydantic makes the bytes.
        self._dumps = self._field is not None and is_default
        self._options = {
            "include": seen.response_model_include,
            "exclude": seen.response_model_exclude,
            "by_alias": seen.response_model_by_alias,
            "exclude_unset": seen.response_model_exclude_unset,
            "exclude_defaults": seen.response_model_exclude_defaults,
            "exclude_none": seen.response_model_exclude_none,
        }
        if self._field is not None:
            self._validate = validator_of(self._field)
            serializer = self._field._type_adapter.serializer
            is_own = type(serializer) is SchemaSerializer
            self._to_json: Any = serializer.to_json if is_own else self._field._type_adapter.dump_json
        # Whether the answer is bytes with a length and a type.
        status = self.status or 200
        has_body = status >= 200 and status not in (204, 205, 304)
        self._is_plain = has_body and (self._dumps or (self._field is None and self.kind is JSONResponse))

    async def make(self, run: Run, result: Any) -> Response | bytes:
        """The answer, ready to be sent."""
        if isinstance(result, Response):
            if result.background is None:
                result.background = run.background
            return result
        if self._is_plain and run.response is None and run.background is None:
            if self._dumps:
                value = await self._valid(run, result)
                return self._to_json(value, **self._options)  # type: ignore[no-any-return]
            found = plain_json(result) if json.dumps is _dumps else None
            return framework.render_json(framework.jsonable(result)) if found is None else found
        return await self._response(run, result)

    async def _response(self, run: Run, result: Any) -> Response:
        if self._field is None:
            content = framework.jsonable(result)
        else:
            value = await self._valid(run, result)
            make = self._field.serialize_json if self._dumps else self._field.serialize
            content = make(value, **self._options)
        # FastAPI makes one for every request, so it is set whether or not user code asked for it.
        set_by_user = run.sub_response()
        given: dict[str, Any] = {"background": run.background}
        status = set_by_user.status_code or self.status
        if status:
            given["status_code"] = status
        if self._dumps:
            response = Response(content=content, media_type="application/json", **given)
        else:
            response = self.kind(content, **given)
        if not framework.is_body_allowed(response.status_code):
            response.body = b""
        response.headers.raw.extend(set_by_user.headers.raw)
        return response

    async def _valid(self, run: Run, result: Any) -> Any:
        if self._on_loop:
            try:
                return self._validate(result, from_attributes=True)
            except ValidationError as error:
                found = error.errors(include_url=False)
                errors = framework.with_location(errors=found, loc_prefix=("response",))
        else:
            value, errors = await in_thread(self._validated, result)
            if not errors:
                return value
        raise framework.ResponseValidationError(errors=errors, body=result, endpoint_ctx=endpoint_context(run))

    def _validated(self, result: Any) -> Any:
        return self._field.validate(result, {}, loc=("response",))


async def send(run: Run, made: Response | bytes) -> None:
    """Sends an answer, then runs its background tasks."""
    if type(made) is bytes:
        run.started = True
        headers = [(b"content-length", b"%d" % len(made)), _JSON]
        waits = run.exchange.answer(run.plan.answer.status or 200, headers, made)
        if waits is not None:
            await waits
        return
    if type(made).__call__ is not _own_call:
        run.fill_scope()
        await made(run.scope, run.exchange.receive, run.send)  # type: ignore[operator]
        return
    assert isinstance(made, Response)
    run.started = True
    waits = run.exchange.answer(made.status_code, made.raw_headers, made.body)
    if waits is not None:
        await waits
    if made.background is not None:
        await made.background()
