"""An ASGI application that sends each message of a WebSocket back. GET answers 200.

uvicorn serves it as it is: `uvicorn echo_app:app`. `python echo_app.py PORT [CERTIFICATE KEY]` serves it with Eagleray,
until it is told to end.
"""

import signal
import sys


async def app(scope, receive, send):
    """The application; it keeps nothing of what comes."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            if data is not None:
                await send({"type": "websocket.send", "bytes": data})
            else:
                await send({"type": "websocket.send", "text": message["text"]})


def main():
    """Serves it with Eagleray."""
    from eagleray import serve

    @serve.deployment(max_ongoing_requests=2000)
    @serve.ingress(app)
    class Echo:
        pass

    options = {"host": "127.0.0.1", "port": int(sys.argv[1])}
    if len(sys.argv) > 2:
        options |= {"ssl_certfile": sys.argv[2], "ssl_keyfile": sys.argv[3]}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve.start(http_options=options)
    serve.run(Echo.bind(), route_prefix="/", blocking=True)


if __name__ == "__main__":
    main()
