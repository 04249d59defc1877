"""A pytest plugin: each request of a test to a FastAPI application is answered by one path, and written down.

`EAGLERAY_SUITE_PATH` says which path: `asgi` or `compiled`. `EAGLERAY_SUITE_RECORD` is the file, a line of JSON a test.
Two files of the same tests are what `fastapi_suite.py` compares.
"""

import json
import os
import random
import re
import warnings

import pytest

COMPILED = os.environ.get("EAGLERAY_SUITE_PATH") == "compiled"
RECORD = os.environ["EAGLERAY_SUITE_RECORD"]

ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
# Of requests in the test that runs.
seen = []


def plain(value):
    """A value as text that two runs have in common."""
    return ADDRESS.sub("0x", repr(value))


class Recorder:
    """An application in front of a FastAPI application; for a test it is that application."""

    def __init__(self, app):
        self.app = app
        self.compiled = None
        # The layer that calls compiled routes, where they are below middleware.
        self.layer = None

    def __getattr__(self, name):
        return getattr(self.app, name)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        line = {"request": [scope["method"], scope["path"]], "sent": [], "raised": None, "path": "asgi"}
        seen.append(line)

        async def note(message):
            if message["type"] == "http.response.start":
                headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
                line["sent"].append(plain((message["status"], headers)))
            else:
                line["sent"].append(plain((bytes(message.get("body", b"")), bool(message.get("more_body")))))
            await send(message)

        try:
            if COMPILED:
                await self.serve(scope, receive, note, line)
            else:
                await self.app(scope, receive, note)
        except BaseException as error:
            # The text of a cancellation names tasks and addresses.
            line["raised"] = type(error).__name__ + (f": {plain(error)}" if isinstance(error, Exception) else "")
            raise

    async def serve(self, scope, receive, send, line):
        from eagleray._user_code.compiled import framework, serve

        if os.environ.get("FASTAPI_TRUST"):
            framework.differences = list
        if self.app.middleware_stack is None:
            self.app.middleware_stack = self.app.build_middleware_stack()
        if self.compiled is None or not self.compiled.is_current():
            # Anew when something has changed, so that more is compared than a replica compiles, which does it once.
            if self.layer is not None:
                self.layer.app = self.layer.app.app
                self.layer = None
            self.compiled = serve.compile_routes(self.app)
            if self.compiled.plans and not self.compiled.is_whole:
                self.layer = framework.exception_layer(self.app)
                serve.Below.put(self.compiled, self.app)
        found = self.compiled.find(scope)
        if found is None:
            line["path"] = self.compiled.why_not(scope)
            await self.app(scope, receive, send)
        elif not self.compiled.is_whole:
            line["path"] = "compiled below middleware"
            await self.app(scope, receive, send)
        else:
            line["path"] = "compiled"
            await self.compiled.run(*found, scope, serve.Messages(receive, send))


def wrapped(app):
    from fastapi import FastAPI

    return Recorder(app) if isinstance(app, FastAPI) else app


def pytest_configure():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient

    own = TestClient.__init__

    def initialize(self, app, *args, **kwargs):
        own(self, wrapped(app), *args, **kwargs)

    TestClient.__init__ = initialize
    for name in ("httpx", "httpx2"):
        try:
            module = __import__(name)
        except ImportError:
            continue
        transport = getattr(module, "ASGITransport", None)
        if transport is not None:
            patch(transport)


def patch(transport):
    own = transport.__init__

    def initialize(self, app, *args, **kwargs):
        own(self, wrapped(app), *args, **kwargs)

    transport.__init__ = initialize


def pytest_runtest_setup():
    # Some examples answer by chance.
    random.seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        line = {"test": item.nodeid, "outcome": report.outcome, "requests": list(seen)}
        with open(RECORD, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        seen.clear()
    return report
