"""Chapter 4: how user code is run and what HTTP gets, from a served application."""

import pytest
from programs import Run, program, running

from machine import Machine

CASES = [
    pytest.param(
        "async_code_runs_on_the_loop_of_the_constructor", marks=pytest.mark.contract("4.3/own-loop", "4.1/constructor")
    ),
    pytest.param("sync_methods_run_in_threads", marks=pytest.mark.contract("4.3/sync-threads")),
    pytest.param("sync_generators_run_in_threads", marks=pytest.mark.contract("4.3/sync-generators")),
    pytest.param("context_variables", marks=pytest.mark.contract("4.3/contextvars", "1.5/get_multiplexed_model_id")),
    pytest.param("garbage", marks=pytest.mark.contract("4.1/gc")),
    pytest.param("directory", marks=pytest.mark.contract("2/runtime_env")),
    pytest.param(
        "replica_context",
        marks=[
            pytest.mark.contract(
                "1.5/context-ids",
                "1.5/context-servable",
                "1.5/get_replica_context",
                "1.5/get_app_handle",
                "1.5/get_deployment_handle-app_name",
                "1.5/get_multiplexed_model_id",
            ),
            pytest.mark.contract(
                "1.5/get_deployment_handle-missing", "G/13", better="both RayServeException and KeyError"
            ),
        ],
    ),
    pytest.param("shared", marks=pytest.mark.contract("2/shared", "2/nested")),
    pytest.param("http_calls_the_root_only", marks=pytest.mark.contract("2/root", "4.4/call")),
    pytest.param(
        "errors_over_http",
        marks=pytest.mark.contract(
            "4.4/downstream",
            "3.6/RayServeException",
            "3.6/BackPressureError",
            "3.6/DeploymentUnavailableError",
            "3.6/ReplicaUnavailableError",
        ),
    ),
    pytest.param("streaming", marks=pytest.mark.contract("4.4/streaming", "4.4/response")),
    pytest.param("delete", marks=pytest.mark.contract("1.5/delete-unknown", "1.5/start")),
    pytest.param(
        "an_idle_replica_stops_at_once",
        marks=pytest.mark.contract(
            "4.2/graceful-stop", "G/21", better="an idle replica stops at once, whatever graceful_shutdown_wait_loop_s"
        ),
    ),
    pytest.param("a_killed_replica_is_not_deleted", marks=pytest.mark.contract("4.2/del-killed", "4.2/del")),
    pytest.param(
        "reconfigure",
        marks=pytest.mark.contract("4.2/reconfigure", "4.1/reconfigure-none", "4.1/reconfigure-later"),
    ),
    pytest.param(
        "starts_that_fail_are_given_up",
        marks=[
            pytest.mark.contract("2/constructor-retries", "1.5/run-deploy-failed"),
            pytest.mark.contract("G/24", better="the message says after how many failures"),
        ],
    ),
]


@pytest.fixture(scope="module")
def served(module_machine: Machine) -> Run:
    script = module_machine.serve(program("replicas"))
    script.do(f"globals().update(ADDRESS={script.address!r})")
    return running(script)


@pytest.mark.parametrize("case", CASES)
def test_served(served: Run, case: str) -> None:
    served(case)
