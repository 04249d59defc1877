"""Chapter 3: handles and what they return, where applications are served and in local testing mode."""

import pytest
from programs import Run, program, running

from machine import Machine

BOTH = [
    pytest.param("remote_returns_at_once", marks=pytest.mark.contract("3.1/remote")),
    pytest.param("arguments", marks=pytest.mark.contract("2/nested", "3.2/response")),
    pytest.param("remote_stream", marks=pytest.mark.contract("3.1/remote-stream")),
    pytest.param("options_are_a_copy", marks=pytest.mark.contract("3.1/options")),
    pytest.param("serializations", marks=pytest.mark.contract("3.1/options-serialization")),
    pytest.param("formats_by_value", marks=pytest.mark.contract("3.1/serialization-by-value")),
    pytest.param("attributes", marks=pytest.mark.contract("3.1/attributes", "3.1/attributes-unknown", "G/14")),
    pytest.param("collisions", marks=pytest.mark.contract("3.1/collisions")),
    pytest.param("introspection", marks=pytest.mark.contract("3.1/introspection", "1.5/get_deployment_handle")),
    pytest.param("init", marks=pytest.mark.contract("3.1/init")),
    pytest.param("shutdown", marks=pytest.mark.contract("3.1/shutdown", "3.1/after-shutdown")),
    pytest.param("pickle", marks=pytest.mark.contract("3.1/pickle")),
    pytest.param("callers", marks=pytest.mark.contract("3.1/callers", "3.3/result-sync-method")),
    pytest.param("context", marks=pytest.mark.contract("3.1/context-not", "G/16")),
    pytest.param("unpicklable", marks=pytest.mark.contract("3.1/unpicklable")),
    pytest.param("responses_as_arguments", marks=pytest.mark.contract("3.2/response")),
    pytest.param("response_inside_another_value", marks=pytest.mark.contract("3.2/response-nested")),
    pytest.param("generator_as_argument", marks=pytest.mark.contract("3.2/generator")),
    pytest.param(
        "argument_that_failed",
        marks=pytest.mark.contract("3.2/response-failed", better="the caller gets the argument's own exception"),
    ),
    pytest.param("result", marks=pytest.mark.contract("3.3/result", "3.3/result-loop", "3.3/await-again")),
    pytest.param("result_times_out", marks=pytest.mark.contract("3.3/result-timeout")),
    pytest.param("await", marks=pytest.mark.contract("3.3/await", "3.3/await-again")),
    pytest.param("cancel", marks=pytest.mark.contract("3.3/cancel", "4.3/cancel-response")),
    pytest.param("cancel_of_children", marks=pytest.mark.contract("3.3/cancel-children", "4.3/cancel-children")),
    pytest.param("cancel_of_the_task_that_awaits", marks=pytest.mark.contract("3.3/cancel-await")),
    pytest.param("cancelled_after_the_end", marks=pytest.mark.contract("3.3/cancelled")),
    pytest.param("properties_of_a_response", marks=pytest.mark.contract("3.3/request_id", "3.3/pickle")),
    pytest.param("exception", marks=pytest.mark.contract("3.3/exception")),
    pytest.param("iterate", marks=pytest.mark.contract("3.4/iterate")),
    pytest.param("a_generator_is_no_response", marks=pytest.mark.contract("3.4/await", "3.4/result", "3.4/next-loop")),
    pytest.param("cancel_of_a_generator", marks=pytest.mark.contract("3.4/cancel", "4.3/cancel-generator")),
    pytest.param("exception_after_some_items", marks=pytest.mark.contract("3.4/exception")),
    pytest.param(
        "generators_and_stream_must_agree", marks=pytest.mark.contract("3.4/not-streamed", "3.4/not-generator")
    ),
    pytest.param(
        "broadcast",
        marks=pytest.mark.contract("3.1/broadcast", "3.5/results", "3.5/results_async", "3.5/loop"),
    ),
    pytest.param("broadcast_times_out", marks=pytest.mark.contract("3.5/timeout")),
    pytest.param("broadcast_exceptions", marks=pytest.mark.contract("3.5/return_exceptions")),
    pytest.param("choose_replica", marks=pytest.mark.contract("3.1/choose_replica", "3.1/dispatch")),
    pytest.param("dispatch_with_arguments", marks=pytest.mark.contract("3.1/dispatch")),
    pytest.param("dispatch_twice", marks=pytest.mark.contract("3.1/dispatch-twice")),
    pytest.param("dispatch_of_another_deployment", marks=pytest.mark.contract("3.1/dispatch-foreign")),
]
SERVED = [
    pytest.param("broadcast_to_nobody", marks=pytest.mark.contract("3.1/broadcast-none")),
    pytest.param("back_pressure", marks=pytest.mark.contract("3.1/backpressure")),
    pytest.param("calls_move_from_a_dead_replica", marks=pytest.mark.contract("3.1/moved")),
    pytest.param("a_broadcast_leaves_dead_replicas_out", marks=pytest.mark.contract("3.5/dead")),
    pytest.param("dispatch_to_a_replica_that_is_gone", marks=pytest.mark.contract("3.1/dispatch-gone")),
    pytest.param("unavailable", marks=pytest.mark.contract("3.1/unavailable")),
    pytest.param(
        "a_replica_that_dies",
        marks=pytest.mark.contract("3.1/died", better="a ReplicaUnavailableError that says what happened"),
    ),
]


@pytest.fixture(scope="module")
def served(module_machine: Machine) -> Run:
    return running(module_machine.serve(program("handles")))


@pytest.fixture(scope="module")
def local(module_machine: Machine) -> Run:
    environment = {"EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE": "1"}
    return running(module_machine.serve(program("handles"), name="local.py", environment=environment))


@pytest.mark.parametrize("case", [*BOTH, *SERVED])
def test_served(served: Run, case: str) -> None:
    served(case)


@pytest.mark.parametrize("case", BOTH)
def test_in_local_testing_mode(local: Run, case: str) -> None:
    local(case)


@pytest.mark.contract("1.5/local-unsupported", better="choose_replica and dispatch work too")
def test_a_replica_is_chosen_in_local_testing_mode_too(local: Run) -> None:
    local("choose_replica")
