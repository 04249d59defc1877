"""What runs user code: in a replica process (`eagleray._replica`), and in local testing mode (`eagleray._local`).

`deployed` knows what was deployed, and `hooks` calls what it has beside requests. `http`, `asgi`, `websocket` and
`calls` run it for one request, on the loop or on a thread of the `pool`; `answer` and `encode` turn what it returns
into bytes, `failure` and `errors` what it raises. Requests are `eagleray._core.Request`, or objects with its methods.
"""
