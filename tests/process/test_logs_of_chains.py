"""What the logs say of an error that comes up through a chain of deployments."""

import re

import pytest

from machine import Machine, Script, eventually

CHAIN = """
import traceback
from fastapi import FastAPI
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle

@serve.deployment
class Deep:
    async def work(self, kind):
        raise ValueError(f"deep {kind}")

@serve.deployment
class Middle:
    def __init__(self, deep: DeploymentHandle):
        self.deep = deep

    async def on_loop(self, kind):
        return await self.deep.work.remote(kind)

    def in_thread(self, kind):
        return self.deep.work.remote(kind).result()

    async def other(self, kind):
        try:
            await self.deep.work.remote(kind)
        except ValueError as error:
            raise LookupError("nothing found") from error

    async def noted(self, kind):
        try:
            await self.deep.work.remote(kind)
        except ValueError as error:
            error.add_note("two\\nlines")
            raise

@serve.deployment
class Plain:
    def __init__(self, middle: DeploymentHandle):
        self.middle = middle

    async def __call__(self, request):
        return await self.middle.options(method_name=request.query_params["kind"]).remote(request.query_params["kind"])

api = FastAPI()

@serve.deployment
@serve.ingress(api)
class Views:
    def __init__(self, middle: DeploymentHandle):
        self.middle = middle

    @api.get("/")
    async def view(self):
        return await self.middle.on_loop.remote("view")

middle = Middle.bind(Deep.bind())

def outside():
    try:
        serve.get_deployment_handle("Middle", "plain").on_loop.remote("outside").result()
    except ValueError as error:
        return "".join(traceback.format_exception(error))
"""


@pytest.fixture
def chain(machine: Machine) -> Script:
    return machine.serve(
        CHAIN,
        run="serve.run(Plain.bind(middle), name='plain', route_prefix='/plain'); "
        "serve.run(Views.bind(middle), name='views', route_prefix='/views')",
    )


def said(machine: Machine, deployment: str, request_id: str) -> str:
    """What the one replica of a deployment has logged of the errors of one request."""

    def look() -> str:
        log = machine.logs("replica_*.log")
        pattern = rf"^ERROR \S+ \S+ {deployment} \w+ \w+ {request_id} -- (?:.*\n)(?:(?!INFO|ERROR|WARNING).*\n)*"
        return "".join(re.findall(pattern, log, re.MULTILINE)).strip()

    return eventually(look, f"{deployment} has logged an error of {request_id}")


@pytest.mark.parametrize("kind", ["on_loop", "in_thread"])
def test_a_traceback_is_logged_where_it_was_raised_and_a_line_above(machine: Machine, chain: Script, kind: str) -> None:
    request_id = f"id-{kind}"
    assert chain.get(f"/plain?kind={kind}", headers={"x-request-id": request_id}).status == 500
    deep = said(machine, "plain/Deep", request_id)
    assert "call failed: user code raised\n" in deep
    assert "Traceback (most recent call last)" in deep
    assert f"ValueError: deep {kind}" in deep
    told = f"raised ValueError: deep {kind} \\[called at \\S+:\\d+ in {{}}; see request {request_id} in the log of that"
    middle = said(machine, "plain/Middle", request_id)
    assert len(middle.splitlines()) == 1, middle
    assert re.search(f"call failed: plain/Deep.work {told.format(kind)} deployment]$", middle), middle
    plain = said(machine, "plain/Plain", request_id)
    assert len(plain.splitlines()) == 1, plain
    assert re.search(f"request failed: plain/Middle.{kind} {told.format('__call__')} deployment]$", plain), plain


def test_what_user_code_makes_of_an_error_is_logged_whole(machine: Machine, chain: Script) -> None:
    assert chain.get("/plain?kind=other", headers={"x-request-id": "id-other"}).status == 500
    middle = said(machine, "plain/Middle", "id-other")
    assert middle.count("LookupError: nothing found") == 1
    assert "ValueError: deep other" in middle
    assert re.search("File .*, in other", middle)
    assert len(said(machine, "plain/Plain", "id-other").splitlines()) == 1
    assert chain.get("/plain?kind=noted", headers={"x-request-id": "id-noted"}).status == 500
    noted = said(machine, "plain/Middle", "id-noted")
    assert "Traceback" not in noted
    assert "ValueError: deep noted\ntwo\nlines [called at" in noted


def test_an_endpoint_of_fastapi_logs_a_line_too(machine: Machine, chain: Script) -> None:
    assert chain.get("/views/", headers={"x-request-id": "id-view"}).status == 500
    views = said(machine, "views/Views", "id-view")
    assert re.search(
        r"request failed: views/Middle\.on_loop raised ValueError: deep view \[called at \S+ in view; ", views
    )
    assert len(views.splitlines()) == 1, views


def test_the_caller_outside_gets_every_traceback(chain: Script) -> None:
    text = chain.do("outside()")
    assert text.endswith("ValueError: deep outside\n")
    assert "in work\n" in text
    assert text.count("in on_loop\n") == 1
