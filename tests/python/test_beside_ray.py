"""`import eagleray as ray`: the calls around `serve` do nothing and say so once, all else says where it is."""

import doctest
import inspect
import pickle
import subprocess
import sys
import types
from typing import Any

import pytest

import eagleray
from eagleray import _beside_ray
from eagleray._driver import ray_cluster
from eagleray.serve import _log


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(_log.logger(), "handlers", [caplog.handler])
    monkeypatch.setattr(_beside_ray, "_said", set())
    monkeypatch.setattr(_beside_ray, "_initialized", False)
    return caplog


@pytest.mark.contract("1/ray-names", better="no cluster is needed, so they do nothing and say so once")
def test_the_calls_around_serve_do_nothing_and_say_so_once(log: pytest.LogCaptureFixture) -> None:
    import eagleray as ray

    assert not ray.is_initialized()
    if not ray.is_initialized():
        ray.init(address="auto", ignore_reinit_error=True, runtime_env={"pip": ["x"]})
    assert ray.is_initialized()
    with ray.init("ray://head:10001") as context:
        assert context.address_info == {}
        assert context.dashboard_url == ""
    assert not ray.is_initialized()
    ray.shutdown()
    ray.shutdown()
    assert [record.message.partition(" does")[0] for record in log.records] == [
        "eagleray.init()",
        "eagleray.shutdown()",
    ]
    assert "address, ignore_reinit_error, runtime_env had no effect" in log.records[0].message
    assert ray.__version__.count(".") == 2
    assert issubclass(ray.exceptions.GetTimeoutError, TimeoutError)


@pytest.mark.contract("1/ray-names", better="no cluster is needed, so they do nothing and say so once")
@pytest.mark.parametrize("name", ["get", "put", "wait", "remote", "get_actor", "ObjectRef", "data", "util", "nonsense"])
def test_any_other_name_of_ray_says_how_to_run_beside_it(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"write `import ray` beside .* and call ray\.{name};"):
        getattr(eagleray, name)
    assert not hasattr(eagleray, name)
    assert getattr(eagleray, name, 3) == 3


def test_tools_that_look_at_the_module_find_a_plain_one() -> None:
    for name in ("__wrapped__", "__file__x", "_repr_html_", "_ipython_display_", "__path__x", "__test__"):
        assert not hasattr(eagleray, name)
    assert inspect.unwrap(eagleray) is eagleray  # type: ignore[arg-type]
    assert {name for name, _ in inspect.getmembers(eagleray, inspect.isclass)} <= {"Any"}
    assert doctest.DocTestFinder().find(eagleray, "eagleray")
    assert pickle.loads(pickle.dumps(eagleray.init)) is eagleray.init
    assert "init" in eagleray.__all__


def test_importing_the_package_stays_cheap() -> None:
    program = (
        "import sys; before = set(sys.modules); import eagleray; hasattr(eagleray, '__wrapped__')\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('eagleray') or name == 'logging'))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['eagleray']"


class Ray(types.ModuleType):
    """What is looked at of a real one."""

    def __init__(self, *, initialized: bool = True) -> None:
        super().__init__("ray")
        self.initialized = initialized

    def is_initialized(self) -> bool:
        return self.initialized

    def get_runtime_context(self) -> Any:
        return types.SimpleNamespace(gcs_address="10.0.0.1:6379", namespace="mine")


def test_replicas_whose_code_uses_ray_get_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", Ray())
    assert ray_cluster.environment(frozenset({"ray", "json"})) == {
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_NAMESPACE": "mine",
        "EAGLERAY_JOIN_RAY": "1",
    }
    assert ray_cluster.environment(frozenset({"json"})) == {}, "its code does not use Ray"
    monkeypatch.setitem(sys.modules, "ray", Ray(initialized=False))
    assert ray_cluster.environment(frozenset({"ray"})) == {}
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    assert ray_cluster.environment(frozenset({"ray"})) == {}, "another package of that name"
