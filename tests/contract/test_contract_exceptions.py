"""Chapter 3.6: what the exceptions are made from and what they carry."""

import pickle

import pytest

from eagleray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)


@pytest.mark.contract("3.6/BackPressureError")
def test_back_pressure() -> None:
    error = BackPressureError(7, 5)
    assert isinstance(error, RayServeException)
    assert (error.status_code, error.retry_after_s) == (503, None)
    assert "7" in error.message
    assert "5" in error.message
    error = BackPressureError(num_queued_requests=1, max_queued_requests=1, status_code=429, retry_after_s=2.5)
    assert (error.status_code, error.retry_after_s) == (429, 2.5)


@pytest.mark.contract("3.6/RequestCancelledError")
def test_request_cancelled() -> None:
    assert isinstance(RequestCancelledError(), RayServeException)
    assert "some-id" in str(RequestCancelledError(request_id="some-id"))


@pytest.mark.contract("3.6/DeploymentUnavailableError", "3.6/ReplicaUnavailableError")
@pytest.mark.parametrize("kind", [DeploymentUnavailableError, ReplicaUnavailableError])
def test_unavailable(kind: type[DeploymentUnavailableError] | type[ReplicaUnavailableError]) -> None:
    error = kind("something")
    assert isinstance(error, RayServeException)
    assert "something" in error.message


@pytest.mark.contract("3.6/RayServeException", "3.6/pickle")
def test_all_survive_pickling() -> None:
    assert RayServeException.__mro__[1] is Exception
    for error in (
        RayServeException("text"),
        BackPressureError(3, 2, 429, 1.0),
        RequestCancelledError("id"),
        DeploymentUnavailableError("x"),
        ReplicaUnavailableError("x"),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
