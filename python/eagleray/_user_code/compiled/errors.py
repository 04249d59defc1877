"""An exception of a compiled request, given to the application's own handlers.

Which handler gets it, what happens when that raises in turn, what an answer that has begun changes, what `debug` shows:
all of this is Starlette's own code, run as it is, around a router that only raises.
"""

from __future__ import annotations

import copy
from typing import Any

from eagleray._user_code.compiled import framework, middleware
from eagleray._user_code.compiled.run import Run


async def handle(layers: list[Any], run: Run, error: Exception) -> None:
    """Answers as the application answers an exception of the endpoint; raises what it raises.

    Args:
        layers: The application's own middleware; empty: the request came through it, and what is raised goes back.
        run: The request.
        error: The exception.
    """
    run.fill_scope()
    request = run.request
    began = run.started
    # What CORS adds it adds above those layers that it is around.
    server = run.exchange.server if type(run.exchange) is middleware.Answering else run.exchange

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        if began:
            # So that each layer knows; it does not get further than `bottom`.
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def bottom(message: Any) -> None:
        nonlocal began
        if began and message["type"] == "http.response.start":
            began = False
            return
        await server.send(message)

    async def router(scope: Any, receive: Any, send: Any) -> None:
        await framework.wrap_app_handling_exceptions(endpoint, request)(scope, receive, send)

    app: Any = router
    for layer in reversed(layers):
        if type(layer) in middleware.KNOWN:
            app = layer.around(app, run)
        else:
            around = copy.copy(layer)
            around.app = app
            app = around
    await app(run.scope, server.receive, bottom)
