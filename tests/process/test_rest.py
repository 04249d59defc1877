"""The control port: who may ask, what is answered without the controller, and the paths of Ray Serve."""

import http.client
import json
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from control import RAY, Control
from machine import Machine, eventually, request

SHOP = """
from eagleray import serve

@serve.deployment(num_replicas=2, ray_actor_options={"runtime_env": {"env_vars": {"PASSWORD": "hunter2"}}})
class Rank:
    async def __call__(self, request):
        return "ranked"

@serve.deployment
class Front:
    def __init__(self, rank):
        self.rank = rank

    async def __call__(self, request):
        return await self.rank.remote(request)

app = Front.bind(Rank.bind())
"""


@pytest.fixture
def control(machine: Machine) -> Control:
    machine.start_resident()
    return Control(machine)


@pytest.fixture
def shop(machine: Machine) -> Control:
    """A script that serves `shop`."""
    script = machine.serve(SHOP, run='serve.run(app, name="shop", route_prefix="/shop")')
    return Control(machine, owner=script.pid)


@pytest.mark.contract("7/access", better="a token always")
def test_nobody_is_let_in_without_the_token(control: Control) -> None:
    def status(**headers: str) -> int:
        return request("GET", control.address + "/api/v1/status", headers=headers).status

    assert status() == 401
    assert status(Authorization="Bearer wrong") == 401
    assert status(Authorization=control.token) == 401
    assert status(Authorization=f"Bearer {control.token}") == 200
    assert status(**{"x-ray-authorization": f"Bearer {control.token}"}) == 200
    refused = request("PUT", control.address + "/api/serve/applications/", {"applications": []})
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["code"] == "unauthorized"
    assert request("GET", control.address + "/no/such/path").status == 401
    mode = (control.directory / "token").stat().st_mode
    assert mode & 0o777 == 0o600


def test_a_token_is_replaced_without_a_restart(control: Control) -> None:
    old = control.token
    (control.directory / "token").write_text("rotated\n")
    assert control.get("/api/v1/status").status == 200
    assert control.ask("GET", "/api/v1/status", Authorization=f"Bearer {old}").status == 401
    (control.directory / "token").unlink()
    assert control.ask("GET", "/api/v1/status", Authorization="Bearer rotated").status == 200
    assert control.token == "rotated", "clients find what works"


def test_a_token_of_ones_own_outlives_the_node(machine: Machine) -> None:
    file = machine.work / "secret"
    file.write_text("mine\n")
    started = machine.cli("start", "--http-port", "0", "--control-token-file", "secret")
    assert started.returncode == 0, started.stderr
    control = Control(machine)
    assert control.ask("GET", "/api/v1/status", Authorization="Bearer mine").status == 200
    # Somebody tidies up: what comes back is the link, not a copy of what it led to.
    (control.directory / "token").unlink()
    eventually((control.directory / "token").is_symlink, "the link is there again")
    file.write_text("new\n")
    assert control.ask("GET", "/api/v1/status", Authorization="Bearer new").status == 200
    assert machine.cli("stop").returncode == 0
    assert file.read_text() == "new\n"


def test_the_token_of_a_resident_node_is_that_of_its_next_start(machine: Machine) -> None:
    machine.start_resident()
    first = Control(machine).token
    assert machine.cli("stop").returncode == 0
    machine.start_resident()
    control = Control(machine)
    assert control.token == first
    (control.directory / "token").write_text("rotated\n")
    eventually(lambda: control.get("/api/v1/status").status == 200, "the new one is known")
    kept = machine.runtime / "state" / "eagleray" / "default" / "token"
    eventually(lambda: kept.read_text() == "rotated\n", "and kept")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert machine.cli("stop").returncode == 0
    machine.start_resident()
    assert Control(machine).token == "rotated"


def test_pages_of_other_origins_are_refused(control: Control) -> None:
    port = urlsplit(control.address).port
    for host in ("evil.example", "127.0.0.1.evil.example", f"192.0.2.1:{port}"):
        answer = control.get("/api/v1/status", Host=host)
        assert (answer.status, answer.json()["code"]) == (403, "host_refused"), host
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = control.get("/api/v1/status", Origin=origin)
        assert (answer.status, answer.json()["code"]) == (403, "origin_refused"), origin
    assert control.get("/api/v1/status", Host=f"localhost:{port}").status == 200
    assert control.get("/api/v1/status", Origin=control.address).status == 200


def test_health_is_the_nodes_own_word(machine: Machine, control: Control) -> None:
    paths = ("/-/healthz", "/api/gcs_healthz", "/api/local_raylet_healthz")
    for path in paths:
        answer = request("GET", control.address + path)
        assert (answer.status, answer.text) == (200, "success"), path
        assert request("POST", control.address + path).status == 405
    controller = machine.one("eagleray: controller$")
    os.kill(controller, signal.SIGSTOP)
    try:
        for path in paths:
            assert request("GET", control.address + path).status == 200
    finally:
        os.kill(controller, signal.SIGCONT)


def test_a_controller_that_is_away_is_said_and_comes_back(machine: Machine, control: Control) -> None:
    answers = []
    os.kill(machine.one("eagleray: controller$"), signal.SIGKILL)

    def back() -> bool:
        answers.append(control.get("/api/v1/status"))
        return answers[-1].status == 200

    eventually(back, "the next controller answers")
    assert {answer.status for answer in answers} <= {200, 503}
    for answer in answers[:-1]:
        assert answer.json()["code"] == "controller_away"
        assert answer.headers["retry-after"] == "1"


def test_what_is_removed_is_made_again(control: Control) -> None:
    (control.directory / "rest.sock").unlink()
    eventually(lambda: control.get("/api/v1/status").status == 200, "the socket is there again")


def test_a_port_that_is_taken_is_said(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started = machine.cli("start", "--http-port", "0", "--control-port", str(port))
        assert started.returncode != 0
        assert f"port {port}" in started.stderr
        assert "--control-port" in started.stderr
        # A script cannot choose, and takes another.
        script = machine.serve(SHOP, environment={"EAGLERAY_CONTROL_PORT": str(port)})
        assert Control(machine, owner=script.pid).get("/api/v1/status").status == 200


def test_the_network_is_refused(machine: Machine) -> None:
    started = machine.cli("start", "--http-port", "0", "--control-host", "0.0.0.0")
    assert started.returncode != 0
    assert "TLS" in started.stderr
    assert not machine.nodes()


@pytest.mark.contract("G/8")
@pytest.mark.parametrize("path", ["/api/serve/applications/", "/api/v1/deploys", "/api/v1/plans"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"applications": 1}',
        b'{"applications": [{"import_path": "shop:app", "name": "a", "nam": "b"}]}',
        b'{"config": {"applications": [{}]}}',
        b'{"config": {}, "text": ""}',
        b'{"text": "applications: [*a]"}',
        b'{"text": "a: &a [*a]"}',
        b'{"text": "' + b"[" * 10000 + b'"}',
        b'{"config": ' + b"[" * 10000 + b"}",
        b"[" * 100000,
        b'{"applications": [], "http_options": {"port": 1e999}}',
        b'{"applications": [], "http_options": {"limits": {"no_such_limit": 1}}}',
    ],
    ids=range(16),
)
@pytest.mark.contract("7/malformed", better="malformed JSON is 400 too")
def test_what_is_no_config_is_400_and_changes_nothing(control: Control, path: str, body: bytes) -> None:
    answer = control.ask("POST" if "/v1/" in path else "PUT", path, body)
    assert answer.status == 400, answer.text
    assert answer.text.strip()
    assert control.get("/api/v1/status").json()["applications"] == []


def test_problems_have_their_places(control: Control) -> None:
    text = "applications:\n- name: shop\n  import_path: shop:app\n  deployments:\n  - name: Rank\n    num_replica: 3\n"
    answer = control.ask("POST", "/api/v1/deploys", {"text": text, "file": "shop.yaml"})
    (problem,) = answer.json()["problems"]
    assert (answer.status, answer.json()["code"]) == (400, "config_invalid")
    assert answer.json()["where"] == "shop.yaml:6:5"
    assert (problem["line"], problem["column"]) == (6, 5)
    assert problem["path"] == "applications[0].deployments[0].num_replica"
    assert "num_replicas" in " ".join(problem["help"])
    put = control.ask("PUT", "/api/serve/applications/", {"applications": [{"import_path": "a:b", "nam": "x"}]})
    assert put.status == 400
    assert put.headers["content-type"].startswith("text/plain")
    assert "unknown key" in put.text


def test_bodies_are_bounded(control: Control) -> None:
    parts = urlsplit(control.address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.putrequest("PUT", "/api/serve/applications/")
    connection.putheader("Authorization", f"Bearer {control.token}")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/serve/applications", 404),
        ("GET", "/api/v1/status/", 404),
        ("GET", "/api/v1/%ff", 404),
        ("POST", "/api/serve/applications/", 405),
        ("PATCH", "/api/v1/status", 405),
        ("GET", "/api/serve/applications/?api_type=other", 400),
        ("GET", "/api/v1/status?aplication=x", 400),
        ("GET", "/api/v1/status?application=none", 404),
        ("GET", "/api/v1/applications/%ff/revisions", 400),
        ("GET", "/api/v1/applications/none/revisions", 404),
        ("DELETE", "/api/v1/applications/none", 404),
        ("POST", "/api/v1/applications/none/rollback", 404),
        ("GET", "/api/v1/replicas?limit=-1", 400),
        ("GET", "/api/v1/replicas/none", 404),
        ("GET", "/api/v1/events?since=x", 400),
        ("POST", "/api/v1/applications/none/deployments/x/scale", 400),
    ],
)
def test_what_is_not_there_is_said(control: Control, method: str, path: str, status: int) -> None:
    answer = control.ask(method, path)
    assert answer.status == status, answer.text


def test_status_has_all_that_there_is(machine: Machine, shop: Control) -> None:
    found = shop.get("/api/v1/status").json()
    assert found["node"]["control_address"] == shop.address
    assert found["node"]["proxy_status"] == "HEALTHY"
    (application,) = found["applications"]
    assert application["name"] == "shop"
    assert application["status"] == "RUNNING"
    assert application["route_prefix"] == "/shop"
    front, rank = sorted(application["deployments"], key=lambda one: str(one["name"]))
    assert (front["name"], rank["name"]) == ("Front", "Rank")
    assert rank["replica_states"]["RUNNING"] == 2
    assert rank["options"]["num_replicas"] == 2
    assert rank["options"]["ray_actor_options"]["runtime_env"] == {"env_vars": {"PASSWORD": "****"}}
    replicas = shop.get("/api/v1/replicas?deployment=Rank").json()["replicas"]
    assert {replica["pid"] for replica in replicas} == machine.replicas("shop/Rank")
    one = shop.get(f"/api/v1/replicas/{replicas[0]['replica_id']}").json()
    assert (one["application"], one["pid"]) == ("shop", replicas[0]["pid"])
    for path in ("/api/v1/status", "/api/v1/replicas", "/api/serve/applications/"):
        assert "hunter2" not in shop.get(path).text


@pytest.mark.contract("7/details")
@pytest.mark.contract("7/filter")
def test_details_are_those_of_ray_serve(shop: Control) -> None:
    details = shop.get("/api/serve/applications/").json()
    assert set(details) <= {
        "controller_info",
        "proxy_location",
        "http_options",
        "grpc_options",
        "proxies",
        "applications",
        "target_capacity",
        "target_groups",
        "controller_health_metrics",
        "restores_unset_config_options",
    }
    application = details["applications"]["shop"]
    assert application["status"] == "RUNNING"
    assert application["source"] == "imperative"
    assert application["deployed_app_config"] is None
    rank = application["deployments"]["Rank"]
    assert rank["target_num_replicas"] == 2
    assert [replica["state"] for replica in rank["replicas"]] == ["RUNNING", "RUNNING"]
    assert rank["deployment_config"]["num_replicas"] == 2
    front = application["deployment_topology"]["nodes"]["Front"]
    assert front["outbound_deployments"] == [{"name": "Rank", "app_name": "shop"}]
    assert details["applications"].keys() == {"shop"}
    declared = shop.get("/api/serve/applications/?api_type=declarative").json()
    assert declared["applications"] == {}
    assert shop.get("/api/serve/applications/?api_type=IMPERATIVE").json()["applications"].keys() == {"shop"}


@pytest.mark.contract("7/delete")
def test_delete_takes_everything_down(machine: Machine, shop: Control) -> None:
    for _ in range(2):
        answer = shop.ask("DELETE", "/api/serve/applications/")
        assert (answer.status, answer.body) == (200, b"")
        assert shop.get("/api/serve/applications/").json()["applications"] == {}
    eventually(lambda: not machine.replicas(), "no replica is left")


def test_one_application_is_deleted(machine: Machine, shop: Control) -> None:
    answer = shop.ask("DELETE", "/api/v1/applications/shop")
    assert (answer.status, answer.json()) == (202, {"deleting": "shop"})
    eventually(lambda: not machine.replicas(), "no replica is left")


def test_the_node_ends_when_asked(machine: Machine, control: Control) -> None:
    assert control.ask("POST", "/api/v1/shutdown").status == 202
    eventually(lambda: not machine.left(), f"nothing runs: {machine.left()}")


def test_those_that_wait_for_the_end_keep_nobody_out(machine: Machine) -> None:
    """A DELETE is answered when all is gone. So many may wait, and whoever asks how it goes is answered meanwhile."""
    go_on = machine.work / "go_on"
    script = machine.serve(
        f"""
        import asyncio
        from pathlib import Path
        from eagleray import serve

        @serve.deployment
        class Waits:
            async def __call__(self, request):
                print("WAITS", flush=True)
                while not Path({str(go_on)!r}).exists():
                    await asyncio.sleep(0.01)
                return "done"

        app = Waits.bind()
        """
    )
    control = Control(machine, owner=script.pid)
    with ThreadPoolExecutor(129) as pool:
        running = pool.submit(script.get)
        script.wait_for_line("WAITS")
        deletes = [pool.submit(control.ask, "DELETE", "/api/serve/applications/") for _ in range(128)]
        refused = 128 - 32
        eventually(lambda: sum(one.done() for one in deletes) == refused, "the rest waits")
        assert control.get("/api/v1/status").status == 200
        assert not go_on.exists()
        go_on.write_text("")
        answers = [one.result() for one in deletes]
        assert running.result().text == "done"
    assert sorted(answer.status for answer in answers) == [200] * 32 + [503] * refused
    late = next(answer for answer in answers if answer.status == 503)
    assert "32 calls wait" in late.text


@pytest.mark.contract("G/8")
def test_nothing_is_accepted_that_would_come_to_nothing(machine: Machine) -> None:
    """A node that ends finishes its requests first. Meanwhile a deploy would be taken and never carried out."""
    go_on = machine.work / "go_on"
    script = machine.serve(
        f"""
        import asyncio
        from pathlib import Path
        from eagleray import serve

        @serve.deployment
        class Waits:
            async def __call__(self, request):
                print("WAITS", flush=True)
                while not Path({str(go_on)!r}).exists():
                    await asyncio.sleep(0.01)
                return "done"

        app = Waits.bind()
        """
    )
    control = Control(machine, owner=script.pid)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(script.get, "/")
        script.wait_for_line("WAITS")
        assert control.ask("POST", "/api/v1/shutdown").status == 202
        eventually(lambda: request("GET", control.address + "/-/healthz").status == 503, "it is not healthy")
        refused = control.ask("PUT", "/api/serve/applications/", {"applications": []})
        assert (refused.status, refused.json()["code"]) == (503, "node_ending")
        assert control.get("/api/v1/status").status == 200
        go_on.touch()
        assert waiting.result().text == "done"
    eventually(lambda: not machine.nodes(), "the node has ended")


def test_the_description_is_the_committed_one(control: Control) -> None:
    served = control.get("/api/v1/openapi.json").json()
    committed = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
    assert served == json.loads(committed.read_text()), "EAGLERAY_WRITE_DOCS=1 cargo test -p eagleray-rest writes it"


@pytest.mark.skipif(not RAY, reason="EAGLERAY_TEST_RAY names no Python with Ray Serve")
class TestRaysOwnClients:
    """Ray Serve's client class and its command, unmodified, given the token by Ray's own means."""

    def ray(self, machine: Machine, control: Control, *command: str) -> subprocess.CompletedProcess[str]:
        environment = machine.environment | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(control.directory / "token"),
            "RAY_DASHBOARD_ADDRESS": control.address,
        }
        return subprocess.run(
            command, cwd=machine.work, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    @pytest.mark.contract("7/client")
    def test_the_client_class(self, machine: Machine, shop: Control) -> None:
        program = """
        import sys
        from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
        from ray.serve.schema import ServeInstanceDetails

        client = ServeSubmissionClient(sys.argv[1])
        details = ServeInstanceDetails(**client.get_serve_details())
        print(details._get_status().applications["shop"].status.value)
        print(details.applications["shop"].deployments["Rank"].deployment_config.num_replicas)
        try:
            client.deploy_applications({"applications": [{"import_path": "shop:app", "nam": "x"}]})
        except RuntimeError as error:
            print("REFUSED", "unknown key" in str(error))
        client.delete_applications()
        print(client.get_serve_details()["applications"])
        """
        machine.write("client.py", program)
        done = self.ray(machine, shop, RAY, "client.py", shop.address)
        assert done.stdout.split("\n") == ["RUNNING", "2", "REFUSED True", "{}", ""], done.stderr

    @pytest.mark.contract("7/client")
    def test_the_command(self, machine: Machine, shop: Control) -> None:
        serve = str(Path(RAY).parent / "serve")
        shown = self.ray(machine, shop, serve, "status", "-a", shop.address)
        assert "status: RUNNING" in shown.stdout, shown.stderr
        ended = self.ray(machine, shop, serve, "shutdown", "-a", shop.address, "-y")
        assert ended.returncode == 0, ended.stderr
        assert shop.get("/api/serve/applications/").json()["applications"] == {}
