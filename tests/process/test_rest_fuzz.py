"""The control port under what strangers send, drawn from its own description: no error of ours, and nobody gets in.

What is drawn here is wrong in ways that no schema knows; `test_rest_schema.py` draws by the schema, and at length.
"""

import json
import random
import string
from typing import Any

from control import Control
from machine import ROOT, Machine, request

DESCRIPTION = json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text())
#: What would end the node, and what takes as long as a build.
LEFT_OUT = {"/api/v1/shutdown", "/api/v1/plans"}
CASES = 400


def drawn(draw: random.Random, schema: dict[str, Any], depth: int = 0) -> Any:
    """Something of the schema, or now and then something else."""
    if depth > 4 or draw.random() < 0.15:
        return draw.choice([None, True, -1, 1 << 70, 1e308, "", "\x00", "a" * 5000, [], {}, [[]], {"a": {}}, "\ud7ff"])
    if "$ref" in schema:
        return drawn(draw, DESCRIPTION["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], depth)
    for of in ("oneOf", "anyOf", "allOf"):
        if of in schema:
            return drawn(draw, draw.choice(schema[of]), depth)
    kind = schema.get("type", "object")
    kind = draw.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        return {
            name: drawn(draw, inner, depth + 1)
            for name, inner in schema.get("properties", {}).items()
            if draw.random() < 0.7
        }
    if kind == "array":
        return [drawn(draw, schema.get("items", {}), depth + 1) for _ in range(draw.randrange(3))]
    if "enum" in schema:
        return draw.choice(schema["enum"])
    return {"integer": draw.randrange(-5, 1000), "number": draw.random(), "boolean": True, "null": None}.get(
        kind, "".join(draw.choices(string.printable, k=draw.randrange(12)))
    )


def escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


def test_no_error_of_ours_and_no_way_in(machine: Machine) -> None:
    machine.start_resident()
    control = Control(machine)
    draw = random.Random(8265)
    operations = [
        (method.upper(), path, operation)
        for path, methods in DESCRIPTION["paths"].items()
        for method, operation in methods.items()
        if path not in LEFT_OUT
    ]
    statuses: dict[int, int] = {}
    for _ in range(CASES):
        method, path, operation = draw.choice(operations)
        query = []
        for parameter in operation.get("parameters", []):
            value = drawn(draw, parameter.get("schema", {"type": "string"}))
            text = value if isinstance(value, str) else json.dumps(value)
            if parameter["in"] == "path":
                path = path.replace("{" + parameter["name"] + "}", escaped(text[:200]) or "%20")
            elif parameter["name"] != "follow" and draw.random() < 0.7:
                query.append(f"{parameter['name']}={escaped(text[:200])}")
        body: Any = b""
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            body = json.dumps(drawn(draw, schema)).encode()
            if draw.random() < 0.2:
                body = body[: draw.randrange(len(body) + 1)] + bytes(draw.choices(range(256), k=draw.randrange(4)))
        target = path + ("?" + "&".join(query) if query else "")
        answer = control.ask(method, target, body)
        assert answer.status < 500, (method, target, body, answer.text)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        without = request(method, control.address + target, body)
        assert without.status == 401, (method, target, body, without.text)
    assert statuses.get(200, 0) > 20, f"some of it is right: {statuses}"
    assert statuses.get(400, 0) > 20, f"some of it is wrong: {statuses}"
    assert control.get("/api/v1/status").json()["applications"] == []
