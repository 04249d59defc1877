"""An ASGI application with big bodies: GET answers with BENCH_BODY_BYTES, POST with how many bytes came.

uvicorn serves it as it is: `uvicorn bodies_app:app`. `python bodies_app.py PORT [CERTIFICATE KEY]` serves it with
Eagleray, until it is told to end.
"""

import os
import signal
import sys

SIZE = int(os.environ["BENCH_BODY_BYTES"])
# As files are served: Starlette's FileResponse reads so much at a time.
CHUNK = bytes(64 * 1024)


async def app(scope, receive, send):
    """The application; it keeps nothing of what comes."""
    if scope["type"] != "http":
        return
    if scope["method"] == "GET":
        length = str(SIZE).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for at in range(0, SIZE, len(CHUNK)):
            more = at + len(CHUNK) < SIZE
            await send({"type": "http.response.body", "body": CHUNK[: SIZE - at], "more_body": more})
        return
    received, more = 0, True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(received).encode()})


def main():
    """Serves it with Eagleray."""
    from eagleray import serve

    @serve.deployment
    @serve.ingress(app)
    class Bodies:
        pass

    options = {"host": "127.0.0.1", "port": int(sys.argv[1])}
    if len(sys.argv) > 2:
        options |= {"ssl_certfile": sys.argv[2], "ssl_keyfile": sys.argv[3]}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve.start(http_options=options)
    serve.run(Bodies.bind(), route_prefix="/", blocking=True)


if __name__ == "__main__":
    main()
