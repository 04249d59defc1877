"""ASGI applications that keep the protocol, and those that break it: one 500, or an answer that breaks off."""

from pathlib import Path

import frames
from machine_of_one import code, serving

APPS = """
import asyncio
from eagleray import serve

def start(status=200, headers=()):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}

def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}

async def nothing(scope, receive, send):
    pass

async def start_only(scope, receive, send):
    await send(start())

async def start_only_and_waits(scope, receive, send):
    await send(start())
    await asyncio.sleep(0.05)

async def body_first(scope, receive, send):
    await send(body(b"x"))

async def starts_twice(scope, receive, send):
    await send(start())
    await send(start())

async def unknown_message(scope, receive, send):
    await send({"type": "http.response.nonsense"})

async def no_type(scope, receive, send):
    await send({})

async def text_body(scope, receive, send):
    await send(start())
    await send(body("text"))

async def bad_status(scope, receive, send):
    await send(start(99))
    await send(body(b"x"))

async def text_status(scope, receive, send):
    await send(start("200"))
    await send(body(b"x"))

async def bad_header(scope, receive, send):
    await send(start(headers=[(b"x-bad", b"a\\r\\nb: c")]))
    await send(body(b"x"))

async def bad_header_and_waits(scope, receive, send):
    await send(start(headers=[(b"x-bad", b"a\\r\\nb: c")]))
    await asyncio.sleep(0.05)
    await send(body(b"x"))

async def text_header(scope, receive, send):
    await send(start(headers=[("x-text", "value")]))
    await send(body(b"x"))

async def too_long(scope, receive, send):
    await send(start(headers=[(b"content-length", b"3")]))
    await send(body(b"four"))

async def too_short(scope, receive, send):
    await send(start(headers=[(b"content-length", b"5")]))
    await send(body(b"four"))

async def two_lengths(scope, receive, send):
    await send(start(headers=[(b"content-length", b"4"), (b"content-length", b"5")]))
    await send(body(b"four"))

async def raises(scope, receive, send):
    raise ValueError("a secret")

async def raises_after_start(scope, receive, send):
    await send(start())
    raise ValueError("a secret")

async def exits(scope, receive, send):
    raise SystemExit(3)

async def raises_what_closes(scope, receive, send):
    raise GeneratorExit

async def cancels_itself(scope, receive, send):
    raise asyncio.CancelledError

async def receives_too_often(scope, receive, send):
    await receive()
    async with asyncio.timeout(0.05):
        await receive()

# Part of the answer has left.
async def no_end(scope, receive, send):
    await send(start())
    await send(body(b"part", True))

async def raises_in_the_middle(scope, receive, send):
    await send(start())
    await send(body(b"part", True))
    raise ValueError("a secret")

async def starts_again_in_the_middle(scope, receive, send):
    await send(start())
    await send(body(b"part", True))
    await send(start())

async def too_long_in_the_middle(scope, receive, send):
    await send(start(headers=[(b"content-length", b"5")]))
    await send(body(b"part", True))
    await send(body(b"part", True))

async def too_short_in_the_middle(scope, receive, send):
    await send(start(headers=[(b"content-length", b"5")]))
    await send(body(b"part", True))
    await send(body())

# The whole answer has left.
async def body_after_the_end(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    await send(body(b"more"))

async def raises_after_the_end(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    raise ValueError("a secret")

# What is right.
async def upper_case(scope, receive, send):
    await send(start(201, [(b"X-Upper", b"Yes"), (b"Content-Length", b"5")]))
    await send(body(b"whole"))

async def tuples(scope, receive, send):
    await send({"type": "http.response.start", "status": 201, "headers": ((b"x-upper", b"Yes"),)})
    await send({"type": "http.response.body", "body": bytearray(b"whole")})

async def reads_after_the_end(scope, receive, send):
    waiting = asyncio.ensure_future(receive())
    assert (await waiting) == {"type": "http.request", "body": b"", "more_body": False}
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0)
    await send(start(201, [(b"x-upper", b"Yes")]))
    await send(body(b"whole"))
    assert (await waiting) == {"type": "http.disconnect"}
    assert (await receive()) == {"type": "http.disconnect"}

async def in_pieces(scope, receive, send):
    await send(start(201, [(b"x-upper", b"Yes"), (b"content-length", b"5")]))
    for piece in (b"wh", b"", b"ole"):
        await send(body(piece, True))
    await send(body())

NAMES = {name: value for name, value in list(globals().items()) if asyncio.iscoroutinefunction(value)}

async def dispatch(scope, receive, send):
    if scope["type"] == "http":
        await NAMES[scope["path"][1:]](scope, receive, send)

App = serve.ingress(dispatch)()
"""

FAILS = [
    "nothing", "start_only", "body_first", "starts_twice", "unknown_message", "no_type", "text_body", "bad_status",
    "text_status", "bad_header", "bad_header_and_waits", "text_header", "too_long", "too_short", "two_lengths",
    "raises", "raises_after_start", "exits", "raises_what_closes", "cancels_itself", "receives_too_often",
]  # fmt: skip
BREAKS_OFF = [
    "no_end", "raises_in_the_middle", "starts_again_in_the_middle", "too_long_in_the_middle",
    "too_short_in_the_middle",
]  # fmt: skip
WHOLE = ["body_after_the_end", "raises_after_the_end"]
RIGHT = ["upper_case", "tuples", "reads_after_the_end", "in_pieces"]


def test_an_application_that_breaks_the_protocol_costs_its_own_request_one_500(tmp_path: Path) -> None:
    with serving(tmp_path, code(APPS)["App"]) as (node, router):
        for name in FAILS:
            answer = router.get(f"/{name}")
            assert (answer.status, answer.body) == (500, b"Internal Server Error"), name
            assert not answer.error, name
            assert router.get("/upper_case").status == 201, f"after {name}"
        waited = router.get("/start_only_and_waits")
        assert (waited.status, waited.body, waited.error) == (200, b"", True), "its head had left"
        for name in BREAKS_OFF:
            answer = router.get(f"/{name}")
            assert (answer.status, answer.error) == (200, True), name
            assert answer.body == b"part", name
        for name in WHOLE:
            answer = router.get(f"/{name}")
            assert (answer.status, answer.body, answer.error) == (200, b"whole", False), name
        for name in RIGHT:
            answer = router.get(f"/{name}")
            assert (answer.status, answer.body, answer.headers["x-upper"]) == (201, b"whole", "Yes"), name
            assert not answer.error
        head = router.get("/upper_case", method="HEAD")
        assert (head.status, head.body, head.headers["content-length"]) == (201, b"", "5")
        assert "after the start of an answer" in node.log
        assert node.process.poll() is None


def test_a_small_answer_is_one_frame_and_done(tmp_path: Path) -> None:
    with serving(tmp_path, code(APPS)["App"]) as (_, router):
        whole = router.get("/upper_case").frames
        assert [bool(frame.flags & frames.END) for frame in whole] == [True, False]
        assert whole[-1].flags & frames.DONE
