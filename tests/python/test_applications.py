"""Applications: what bind makes of nested arguments, how deployments are named, builders, and what run_many checks."""

import dataclasses
import pickle
import subprocess
import sys
import threading
from typing import Any

import pydantic
import pytest

from eagleray import serve
from eagleray._driver.build import build
from eagleray.serve._builder import build_application
from eagleray.serve.exceptions import RayServeException
from eagleray.serve.handle import DeploymentHandle


@serve.deployment
class Leaf:
    def __init__(self, value: Any = None) -> None: ...


@serve.deployment
class Root:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


@dataclasses.dataclass
class Parts:
    first: Any
    others: dict[str, Any]


class Plain:
    def __init__(self, inside: Any) -> None:
        self.inside = inside


def built(application: serve.Application, name: str = "app") -> tuple[list[str], dict[str, Any], list[str]]:
    """Names in order, the root's bound arguments as a replica loads them, warnings."""
    made = build(application, name=name, route_prefix="/", logging_config=None)
    names = [entry["name"] for entry in made.spec["deployments"]]
    root = next(entry for entry in made.spec["deployments"] if entry["name"] == made.spec["ingress"])
    _, args, kwargs = pickle.loads(made.blobs[root["callable_blob"]])
    return names, {"args": args, "kwargs": kwargs}, made.warnings


@pytest.mark.contract("2/nested", "2/root")
def test_applications_anywhere_inside_arguments_become_handles() -> None:
    leaves = [Leaf.options(name=f"leaf{number}").bind() for number in range(7)]
    names, bound, warnings = built(
        Root.bind(
            leaves[0],
            [leaves[1], {"a": (leaves[2], 3)}],
            Parts(leaves[3], {"x": [Plain(leaves[4])]}),
            keyword={"deep": [[leaves[5]]]},
            nothing=None,
            other=frozenset({1}),
            last=Plain({"y": leaves[6]}),
        )
    )
    assert names == [f"leaf{number}" for number in range(7)] + ["Root"], "callees first, the ingress last"
    assert warnings == []

    def name(handle: Any) -> str:
        assert isinstance(handle, DeploymentHandle)
        assert handle.app_name == "app"
        return handle.deployment_name

    args, kwargs = bound["args"], bound["kwargs"]
    found = [
        args[0], args[1][0], args[1][1]["a"][0], args[2].first, args[2].others["x"][0].inside,
        kwargs["keyword"]["deep"][0][0], kwargs["last"].inside["y"],
    ]  # fmt: skip
    assert [name(handle) for handle in found] == [f"leaf{number}" for number in range(7)]
    assert (args[1][1]["a"][1], kwargs["nothing"], kwargs["other"]) == (3, None, frozenset({1}))


@pytest.mark.contract("2/shared")
def test_one_application_used_twice_is_one_deployment() -> None:
    leaf = Leaf.bind()
    middle = Root.options(name="middle").bind(leaf)
    names, bound, warnings = built(Root.bind(leaf, [leaf], middle))
    assert names == ["Leaf", "middle", "Root"]
    assert bound["args"][0] == bound["args"][1][0]
    assert warnings == []


@pytest.mark.contract("2/renamed")
def test_different_applications_of_one_name_are_numbered_with_a_warning() -> None:
    names, bound, warnings = built(Root.bind(Leaf.bind(1), Leaf.bind(1), [Leaf.bind(2)]))
    assert names == ["Leaf", "Leaf_1", "Leaf_2", "Root"]
    assert [handle.deployment_name for handle in (*bound["args"][:2], *bound["args"][2])] == names[:3]
    assert ["Leaf_1" in warnings[0], "Leaf_2" in warnings[1], len(warnings)] == [True, True, 2]
    names, _, _ = built(Root.bind(Root.bind(Root.bind())))
    assert names == ["Root", "Root_1", "Root_2"], "a root with the name of a part has the last number"


def test_an_application_is_opaque_and_nobody_pickles_it_by_accident() -> None:
    application = Leaf.bind()
    assert [name for name in dir(application) if not name.startswith("_")] == []
    with pytest.raises(TypeError, match="pass it to bind"):
        pickle.dumps(application)


def test_what_one_thread_builds_is_no_handle_for_another() -> None:
    refused: list[str] = []

    def pickle_it() -> None:
        try:
            pickle.dumps(Leaf.bind())
        except TypeError as error:
            refused.append(str(error))

    class Argument:
        def __reduce__(self) -> tuple[Any, ...]:
            other = threading.Thread(target=pickle_it)
            other.start()
            other.join()
            return str, ("made",)

    names, bound, _ = built(Root.bind(Argument(), Leaf.bind()))
    assert (names, bound["args"][0]) == (["Leaf", "Root"], "made")
    # As often as it is pickled, which is once for the identity too.
    assert refused
    assert all("pass it to bind() of another deployment" in text for text in refused)


def test_a_build_that_failed_leaves_applications_as_they_were() -> None:
    with pytest.raises(TypeError, match="cannot be pickled, and replicas are processes of their own"):
        built(Root.bind(Leaf.bind(), threading.Lock()))
    with pytest.raises(TypeError, match="pass it to bind"):
        pickle.dumps(Leaf.bind())


@pytest.mark.contract("2/options-target")
def test_options_take_another_class() -> None:
    class Other:
        pass

    other = Leaf.options(func_or_class=Other, num_replicas=2)
    assert (other.func_or_class, other.name, other.num_replicas) == (Other, "Leaf", 2)
    with pytest.raises(TypeError, match="class or a function"):
        Leaf.options(func_or_class=3)


@pytest.mark.contract("2/logging_config", "2/set_logging_config", "1.5/run-logging_config")
def test_the_logging_config_of_the_application_is_for_deployments_that_have_none() -> None:
    own = Leaf.options(name="own", logging_config={"log_level": "ERROR"})
    made = build(
        Root.bind(Leaf.bind(), own.bind()),
        name="app",
        route_prefix="/",
        logging_config=serve.schema.LoggingConfig(encoding="JSON", enable_access_log=False),  # type: ignore[attr-defined]
    )
    options = {entry["name"]: entry["options"] for entry in made.spec["deployments"]}
    assert '"encoding": "JSON"' in options["Leaf"]["logging"]
    assert '"log_level": "ERROR"' in options["own"]["logging"]
    assert [options[name]["access_log"] for name in ("Leaf", "own", "Root")] == [False, True, False]
    plain = build(Leaf.bind(), name="app", route_prefix="/", logging_config=None).spec["deployments"][0]["options"]
    assert (plain["logging"], plain["access_log"]) == ("", True)

    changed = Leaf.options()
    changed.set_logging_config({"log_level": 10})
    assert changed.logging_config is not None
    assert changed.logging_config.log_level == 10
    assert Leaf.logging_config is None
    with pytest.raises(TypeError, match="logging_config"):
        changed.set_logging_config("DEBUG")


def test_options_of_the_rollout_are_sent() -> None:
    deployment = Leaf.options(rolling_update_percentage=0.5, max_surge_percent=30)
    options = build(deployment.bind(), name="app", route_prefix="/", logging_config=None).spec["deployments"][0][
        "options"
    ]
    assert (options["rolling_update_percentage"], options["max_surge_percent"]) == (0.5, 30)


# --- builders ---------------------------------------------------------------------------------------------------------


class Arguments(pydantic.BaseModel):
    name: str
    size: int = 1


def from_dict(args: dict[str, Any]) -> serve.Application:
    return Leaf.options(name=args.get("name", "none")).bind()


def from_model(args: Arguments) -> serve.Application:
    return Leaf.options(name=f"{args.name}{args.size + 1}").bind()


def from_later(args: "Arguments") -> serve.Application:
    return from_model(args)


def no_parameter() -> serve.Application:
    return Leaf.bind()


@pytest.mark.contract("2/builder-dict", "2/builder-pydantic")
def test_a_builder_gets_a_dict_or_the_model_that_it_names() -> None:
    def name(*arguments: Any) -> str:
        return build_application(*arguments)._bound_deployment.name

    assert name(from_dict) == "none"
    assert name(from_dict, {"name": "given"}) == "given"
    assert name(from_model, {"name": "a", "size": "4"}) == "a5", "pydantic makes numbers of text, as a command line has"
    assert name(from_later, {"name": "a"}) == "a2"
    with pytest.raises(pydantic.ValidationError, match="name"):
        build_application(from_model, {})
    ready = Leaf.bind()
    assert build_application(ready) is ready


@pytest.mark.contract("2/builder", "2/builder-result", "2/builder-arguments")
@pytest.mark.parametrize(
    ("target", "args", "error", "words"),
    [
        (no_parameter, {}, TypeError, "exactly one parameter.*it takes 0"),
        (lambda one, two: Leaf.bind(), {}, TypeError, "it takes 2"),
        (lambda **args: Leaf.bind(), {}, TypeError, "by position"),
        (lambda args: None, {}, TypeError, "must return an Application; got NoneType"),
        (lambda args: Leaf, {}, TypeError, r"return deployment.bind\(...\)"),
        (Leaf.bind(), {"a": 1}, ValueError, "takes no arguments; got a"),
        (Leaf, {}, TypeError, r"Leaf.bind\(\)"),
        (3, {}, TypeError, "must be an application, or a function"),
    ],
)
def test_what_is_no_builder_is_refused(target: Any, args: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build_application(target, args, called="module:thing")


# --- run_many ---------------------------------------------------------------------------------------------------------


@pytest.mark.contract("1.5/run_many-empty")
@pytest.mark.parametrize(
    ("targets", "error", "words"),
    [
        ([], ValueError, "one RunTarget at least"),
        ([Leaf.bind()], TypeError, "wrap it, serve.RunTarget"),
        ([serve.RunTarget(Leaf)], TypeError, "bind"),  # type: ignore[arg-type]
        ([serve.RunTarget(Leaf.bind(), name="")], RayServeException, "name"),
        ([serve.RunTarget(Leaf.bind(), route_prefix="a")], ValueError, "begin with '/'"),
        ([serve.RunTarget(Leaf.bind(), external_scaler_enabled=1)], ValueError, "external_scaler_enabled"),
        ([serve.RunTarget(Leaf.bind())] * 2, RayServeException, "the name 'default'"),
        (
            [serve.RunTarget(Leaf.bind(), name="a"), serve.RunTarget(Leaf.bind(), name="b")],
            RayServeException,
            "the route_prefix '/'",
        ),
    ],
)
def test_run_many_checks_its_targets_before_it_starts_anything(
    targets: list[Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        serve.run_many(targets)


@pytest.mark.contract("1.5/run-target-class")
def test_a_run_target_is_frozen_and_has_the_parameters_of_run() -> None:
    target = serve.RunTarget(Leaf.bind())
    assert [field.name for field in dataclasses.fields(target)] == [
        "target", "name", "route_prefix", "logging_config", "external_scaler_enabled",
    ]  # fmt: skip
    assert (target.name, target.route_prefix, target.external_scaler_enabled) == ("default", "/", False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.name = "other"  # type: ignore[misc]


@pytest.mark.contract("1.5/get_trace_context")
def test_contexts_that_nobody_has_yet() -> None:
    assert serve.get_trace_context() is None
    with pytest.raises(RayServeException, match="inside a replica"):
        serve.get_deployment_actor("a")
    with pytest.raises(RayServeException, match="deployment actor"):
        serve.get_deployment_actor_context()


@pytest.mark.contract("1/logger")
def test_the_import_sets_up_the_logger_once_and_leaves_that_of_others_alone() -> None:
    program = """
import logging, sys
{before}
from eagleray import serve
from eagleray.serve._log import logger
log = logging.getLogger("eagleray.serve")
print(len(log.handlers), log.propagate, logger() is log, log.getEffectiveLevel(), log.handlers[0].stream is sys.stderr)
"""
    for before, expected in (
        ("", "1 False True 20 True"),
        ("log = logging.getLogger('eagleray.serve'); log.addHandler(logging.StreamHandler()); log.setLevel(10)",
         "1 True True 10 True"),
    ):  # fmt: skip
        text = program.format(before=before)
        run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
        assert run.stdout.strip() == expected, run.stderr
