"""One application in this process: its deployments, built and started, and where calls to them go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from eagleray._driver import build
from eagleray._local.exchange import Call, CallRequest, ReservationRequest, resolve
from eagleray._local.replica import Replica
from eagleray.serve._log import logger
from eagleray.serve.deployment import pickled_as

if TYPE_CHECKING:
    from eagleray._local.http import HttpRequest
    from eagleray.serve.deployment import Application as BoundApplication
    from eagleray.serve.handle import DeploymentHandle

_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


class Application:
    """Deployments of one `serve.run`. It is the router of the handles to them."""

    def __init__(self, target: BoundApplication, *, name: str, route_prefix: str) -> None:
        self.name = name
        self.route_prefix = route_prefix
        self._began = time.time()
        graph = _Graph(name)
        with pickled_as(graph.handle):
            graph.add(target)
        self.ingress = graph.name(target)
        # Callees first, as they were found among the arguments of their callers.
        self._replicas = {replica.name: replica for replica in graph.replicas}
        for warning in graph.warnings:
            logger().warning("%s", warning)

    def start(self) -> None:
        """Constructs the deployments, one after the other. Raises what user code raises."""
        for replica in self._replicas.values():
            replica.start()

    def stop(self) -> None:
        """Ends them, callers first, each after its running requests."""
        for replica in reversed(self._replicas.values()):
            replica.stop()

    def replica(self, deployment_name: str) -> Replica | None:
        """The only replica of a deployment."""
        return self._replicas.get(deployment_name)

    def ingress_handle(self) -> DeploymentHandle:
        """What `serve.run` returns."""
        from eagleray.serve.handle import DeploymentHandle

        return DeploymentHandle(self.ingress, self.name)

    def call(
        self,
        app_name: str,
        deployment_name: str,
        method: str,
        multiplexed_model_id: str,
        session_id: str,
        data: bytes | list[tuple[int, Any]],
        parent: Any = None,
        stream: bool = False,
        replica_id: str = "",
    ) -> Call:
        """As the native router's: sends a call and returns at once."""
        del replica_id  # there is one
        call = Call()
        context = {"multiplexed_model_id": multiplexed_model_id, "session_id": session_id, "parent": parent}

        def accept(body: bytes) -> None:
            # Without a method it is a slot to be reserved.
            request = (
                CallRequest(call, method, stream, body, **context) if method else ReservationRequest(call, **context)
            )
            replica = self._replicas.get(deployment_name)
            if replica is None:
                names = ", ".join(self._replicas)
                call.fail("NotFound", f"application {app_name!r} has no deployment {deployment_name!r}; it has {names}")
            elif not call.done():
                replica.accept(request)

        resolve(data, call, accept)
        return call

    def ask(self, request: HttpRequest, prefix: str) -> None:
        """An HTTP request for the ingress; 404 if its path is not below the prefix."""
        path = request.scope()["path"]
        replica = self._replicas[self.ingress]
        if prefix and path != prefix and not path.startswith(prefix + "/"):
            request.respond(404, _TEXT, f"404: no application is at {path}; this one is at {prefix}".encode())
            return
        left = request.remaining_s
        if left is not None:
            replica.soon(lambda: replica.loop.call_later(left, request.late))
        replica.accept(request)

    def replicas(self, app_name: str, deployment_name: str, timeout_s: float) -> list[str] | None:
        """As the native router's: ids of the replicas of a deployment."""
        del app_name, timeout_s
        replica = self._replicas.get(deployment_name)
        return None if replica is None else [replica.name]

    def status(self) -> dict[str, Any]:
        """As the controller reports it."""
        return {
            "name": self.name,
            "status": "RUNNING",
            "message": "runs in this process, in local testing mode",
            "last_deployed_time_s": self._began,
            "ingress": self.ingress,
            "deployments": [
                {
                    "name": name,
                    "status": "HEALTHY",
                    "status_trigger": "CONFIG_UPDATE_COMPLETED",
                    "replica_states": {"RUNNING": 1},
                    "message": "",
                    "abandoned_requests": 0,
                }
                for name in self._replicas
            ],
        }


class _Graph(build._Graph):
    """Finds the deployments as a deploy does. Arguments are copied by pickling; classes stay the user's own."""

    def __init__(self, app_name: str) -> None:
        super().__init__(app_name)
        self.replicas: list[Replica] = []

    def add(self, application: BoundApplication) -> None:
        self.begun.add(id(application))
        self.keep.append(application)
        self.open.append(set())
        arguments = self.pickle(application, (application._init_args, application._init_kwargs))
        self.open.pop()  # all end together
        name = self.name(application)
        self.replicas.append(Replica(self.app_name, name, application._bound_deployment, arguments))
