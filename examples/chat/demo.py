"""Trains the model if it is not there, serves the chat, and has a text gone on with, word by word."""

import json
import os
import sys
import urllib.request

from train import trained

PORT = int(os.environ.get("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", "8000"))
ADDRESS = f"http://127.0.0.1:{PORT}"
PROMPTS = ("Return the", "Open a file", "This method is")


def main() -> int:
    """0 if every prompt was gone on with."""
    print(f"next word among the five likeliest, in text that training has not seen: {trained():.2f}\n")

    from app import app
    from eagleray import serve

    # A node of the demo's own, also where a resident one runs: the demo changes nothing of yours.
    os.environ["EAGLERAY_NODE_NAME"] = "chat-demo"
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(app, name="chat")
    empty = 0
    for seed, prompt in enumerate(PROMPTS):
        print(f"{prompt} ...", end=" ", flush=True)
        body = json.dumps({"prompt": prompt, "seed": seed}).encode()
        request = urllib.request.Request(ADDRESS + "/generate", body, {"content-type": "application/json"})
        words = 0
        with urllib.request.urlopen(request, timeout=30) as answer:
            while piece := answer.read1():
                words += len(piece.split())
                print(piece.decode(), end="", flush=True)
        print("\n")
        empty += words == 0
    print("Go on: examples/chat/README.md says how to chat with it.")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
