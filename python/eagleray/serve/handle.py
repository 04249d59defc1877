"""Handles: calling a deployment from Python.

`.remote()` pickles on the caller's thread and returns at once; the native router does the rest on a thread of its own,
so no event loop is needed and any number of them may wait. `_client` is that end, `_responses` and `_replicas` are what
calls return.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Generic

from eagleray import _formats, _values
from eagleray._request import current
from eagleray._traceback import RemoteTraceback
from eagleray.serve import _client, _old_names, _replicas, _validate
from eagleray.serve._replicas import DeploymentBroadcastResponse, ReplicaSelection
from eagleray.serve._responses import DeploymentResponse, DeploymentResponseGenerator, _Pending
from eagleray.serve.context import DeploymentID
from eagleray.serve.exceptions import RayServeException

__all__ = [
    "DeploymentBroadcastResponse",
    "DeploymentHandle",
    "DeploymentResponse",
    "DeploymentResponseGenerator",
    "RemoteTraceback",
    "ReplicaSelection",
]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

_OPTIONS: dict[str, Any] = {
    "method_name": "__call__",
    "multiplexed_model_id": "",
    "session_id": "",
    "stream": False,
    "_prefer_local_routing": False,
    "_by_reference": True,
    "request_serialization": "cloudpickle",
    "response_serialization": "cloudpickle",
}
# How long a broadcast waits for the first news of its deployment.
_NEWS_S = 5.0


class _Use:
    """What copies of a handle share: whether it has been used, and whether it still may be."""

    def __init__(self) -> None:
        self.initialized = False
        self.shut_down = False
        self.handle_id = uuid.uuid4().hex[:12]


class DeploymentHandle(Generic[T]):
    """Calls a deployment: `handle.remote(...)`, `handle.method.remote(...)`.

    Works in deployments, in scripts, in threads and on any event loop. Picklable: names and options travel, and connect
    anew where they arrive. `DeploymentHandle[Model]` says, to people and type checkers, what is called.
    """

    def __init__(
        self,
        deployment_name: str,
        app_name: str = "default",
        *,
        _options: dict[str, Any] | None = None,
        _use: _Use | None = None,
    ) -> None:
        self._deployment_name = deployment_name
        self._app_name = app_name
        self._options: dict[str, Any] = _options or {}
        self._use = _use or _Use()

    @property
    def deployment_name(self) -> str:
        """Name of the deployment that is called."""
        return self._deployment_name

    @property
    def app_name(self) -> str:
        """Name of its application."""
        return self._app_name

    @property
    def deployment_id(self) -> DeploymentID:
        """Both names."""
        return DeploymentID(self._deployment_name, self._app_name)

    @property
    def handle_id(self) -> str:
        """Id of this handle and of its copies by `options`; a pickled one has its own where it arrives."""
        return self._use.handle_id

    @property
    def is_initialized(self) -> bool:
        """Whether the handle has been used, or initialized by `_init`."""
        return self._use.initialized

    def running_replicas_populated(self) -> bool:
        """Whether this process knows of a replica that the handle could call. Does not wait."""
        return bool(_client.router(self._app_name).replicas(self._app_name, self._deployment_name, 0.0))

    def _init(self, *, _prefer_local_routing: bool = False, **_others: Any) -> None:
        """Sets what cannot be changed later; once, before the first call.

        Raises:
            RuntimeError: the handle has been used or initialized.
        """
        if self._use.initialized:
            raise RuntimeError("_init() comes once, before the first call of a handle; this one is initialized")
        # On one machine every replica is local, and the router is on its own thread always.
        self._use.initialized = True

    def options(self, **options: Any) -> DeploymentHandle[T]:
        """A copy that calls another method, or otherwise.

        Args:
            method_name: the method to call; `handle.options(method_name="x")` is `handle.x`. Default "__call__".
            multiplexed_model_id: the model that the call is for. Default "", and never inherited from the caller's.
            session_id: calls with the same one go to one replica while that has room. Default "", and never inherited.
            stream: the method is a generator, and the call returns its items. Default False.
            request_serialization, response_serialization: "cloudpickle" (default), "pickle", "msgpack", "orjson" or
                "noop" (bytes). The last three hold together with `_by_reference=False`; docs/handles.md says what they
                carry.

        Raises:
            TypeError: an option that does not exist, or of the wrong type.
        """
        for key, value in options.items():
            if key not in _OPTIONS:
                hint = _validate.hint("DeploymentHandle.options()", key, _OPTIONS)
                raise TypeError(f"DeploymentHandle.options() has no option {key!r}{hint}")
            if type(value) is not type(_OPTIONS[key]) and not isinstance(value, type(_OPTIONS[key])):
                wanted = type(_OPTIONS[key]).__name__
                raise TypeError(f"{key} must be of type {wanted}, got {type(value).__name__}")
        return DeploymentHandle(
            self._deployment_name, self._app_name, _options={**self._options, **options}, _use=self._use
        )

    def __getattr__(self, name: str) -> DeploymentHandle[T]:
        if name.startswith("__") or name.startswith("_repr_") or name == "_ipython_canary_method_should_not_exist_":
            raise AttributeError(name)
        return self.options(method_name=name)

    def remote(self, *args: Any, **kwargs: Any) -> DeploymentResponse[Any] | DeploymentResponseGenerator[Any]:
        """Sends the call and returns at once.

        An argument that is a `DeploymentResponse` is replaced by its value on the way. Inside a deployment the call
        belongs to the request that is being served: it has its id and what is left of its time, and is cancelled when
        nobody waits for its answer any more. What is called after the answer, by a background task, stands for itself.

        Returns:
            A `DeploymentResponse`; a `DeploymentResponseGenerator` with `options(stream=True)`.

        Raises:
            TypeError: an argument cannot be pickled, or not be carried by the `request_serialization`.
            RayServeException: nothing runs; or a `DeploymentResponse` is inside an argument, not one itself.
            RuntimeError: an argument is a `DeploymentResponseGenerator`.
            ValueError: a serialization that does not exist.
            ImportError: the library of a serialization is not installed.
        """
        body, upstream = self._pickle(args, kwargs)
        return self._answer(self._call(body, method=self._options.get("method_name", "__call__")), upstream)

    def broadcast(self, method_name: str, /, *args: Any, **kwargs: Any) -> DeploymentBroadcastResponse[Any]:
        """Calls a method of every replica that the deployment has now, whatever waits in its queue.

        Each replica runs it when it has a free slot. The first use in a process waits for the list of replicas.

        Raises:
            DeploymentUnavailableError: there is no replica.
            TypeError, RayServeException, RuntimeError: as `remote`.
        """
        router = self._router()
        replicas = router.replicas(self._app_name, self._deployment_name, _NEWS_S)
        if not replicas:
            raise _replicas.unavailable(self.deployment_id)
        called = self.options(method_name=method_name, stream=False)
        body, upstream = called._pickle(args, kwargs)
        return DeploymentBroadcastResponse(
            [
                DeploymentResponse(called._call(body, method=method_name, replica_id=replica), called, upstream)
                for replica in replicas
            ]
        )

    def choose_replica(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[ReplicaSelection]:
        """A replica with a free slot, which it keeps for one `dispatch` inside the block.

            async with handle.choose_replica() as selection:
                answer = await handle.dispatch(selection, 1)

        The arguments are for routers that look at them; the default one does not.

        Raises:
            DeploymentUnavailableError, BackPressureError: on entering, as from a call.
        """
        del args, kwargs
        return _replicas.chosen(self._call(b"", method=""), self.deployment_id, self._title())

    def dispatch(
        self, selection: ReplicaSelection, /, *args: Any, **kwargs: Any
    ) -> DeploymentResponse[Any] | DeploymentResponseGenerator[Any]:
        """Calls the replica that was chosen. As `remote` otherwise.

        Raises:
            ValueError: the selection is of another deployment.
            RuntimeError: it was dispatched already, or its block has ended.
            ReplicaUnavailableError: the replica is gone.
        """
        reservation = _replicas.reservation_of(selection)
        stream = self._option("stream")
        head = (self._option("method_name"), stream)
        formats = _formats.wanted(self._options)
        if formats is None:
            body, upstream = self._pickle((*head, *args), kwargs)
        else:
            body, upstream = self._encode(formats, args, kwargs, head)
        call = reservation.take(selection, self.deployment_id)
        call.dispatch(body, stream)
        return self._answer(call, upstream)

    def shutdown(self) -> None:
        """The handle, and its copies, make no more calls. Others of the process go on."""
        self._use.shut_down = True

    async def shutdown_async(self) -> None:
        """As `shutdown`."""
        self.shutdown()

    def _option(self, name: str) -> Any:
        return self._options.get(name, _OPTIONS[name])

    def _router(self) -> Any:
        if self._use.shut_down:
            raise RayServeException(
                f"this handle to {self._title()} was shut down; get another one, by serve.get_deployment_handle"
            )
        self._use.initialized = True
        return _client.router(self._app_name)

    def _call(self, body: Any, *, method: str, replica_id: str = "") -> Any:
        options = self._options
        return self._router().call(
            self._app_name,
            self._deployment_name,
            method,
            options.get("multiplexed_model_id", ""),
            options.get("session_id", ""),
            body,
            current.get(),
            options.get("stream", False),
            replica_id,
        )

    def _answer(
        self, call: Any, upstream: tuple[DeploymentResponse[Any], ...]
    ) -> DeploymentResponse[Any] | DeploymentResponseGenerator[Any]:
        kind = DeploymentResponseGenerator if self._options.get("stream") else DeploymentResponse
        return kind(call, self, upstream)

    def _pickle(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[DeploymentResponse[Any], ...]]:
        """The body of a call, and the responses that are part of it."""
        if "request_serialization" in self._options or "response_serialization" in self._options:
            formats = _formats.wanted(self._options)
            if formats is not None:
                return self._encode(formats, args, kwargs)
        try:
            body = _values.dump_call(args, kwargs, _Pending, self._share)
            return (body, ()) if body is not None else self._pickle_with_responses(args, kwargs)
        except TypeError as error:
            raise TypeError(f"{self._title()}: {error}") from None

    def _pickle_with_responses(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, tuple[DeploymentResponse[Any], ...]]:
        self._refuse_generators(args, kwargs)
        return self._placed(_values.dump_arguments(args, kwargs, DeploymentResponse))

    def _encode(
        self, formats: _formats.Formats, args: tuple[Any, ...], kwargs: dict[str, Any], head: tuple[Any, ...] = ()
    ) -> tuple[Any, tuple[DeploymentResponse[Any], ...]]:
        """As `_pickle`, in other formats. `head` goes before the arguments, and is pickled."""
        self._refuse_generators(args, kwargs)
        try:
            return self._placed(_formats.Arguments(args, kwargs, formats, DeploymentResponse, head).segments())
        except RayServeException:
            raise
        except TypeError as error:
            raise TypeError(f"{self._title()}: {error}") from None

    def _refuse_generators(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for value in (*args, *kwargs.values()):
            if isinstance(value, DeploymentResponseGenerator):
                raise RuntimeError(
                    f"{self._title()}: a DeploymentResponseGenerator cannot be passed to another call; iterate over it "
                    "and pass the items"
                )

    def _placed(self, segments: list[_values.Segment]) -> tuple[Any, tuple[DeploymentResponse[Any], ...]]:
        """The body, and the responses that are part of it."""
        upstream = tuple(segment.data for segment in segments if segment.kind == _values.VALUE)
        if not upstream:
            return _values.place(segments, self._share), ()
        body = []
        for kind, data in segments:
            if kind == _values.VALUE:
                body.append((kind, data._call))
            else:
                body.append((kind, _values.place([_values.Segment(kind, data)], self._share)))
        return body, upstream

    def _share(self, parts: Sequence[Any]) -> Any:
        """Puts what is large into shared memory. None: there is no room, or, in local testing mode, no need."""
        share = getattr(self._router(), "share", None)
        return None if share is None else share(parts)

    def _title(self) -> str:
        method = self._options.get("method_name", "__call__")
        return f"{self._app_name}/{self._deployment_name}" + ("" if method == "__call__" else f".{method}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._deployment_name, self._app_name, self._options)

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment={self._deployment_name!r}, app={self._app_name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeploymentHandle):
            return NotImplemented
        return bool(self.__reduce__()[1] == other.__reduce__()[1])

    def __hash__(self) -> int:
        return hash((self._deployment_name, self._app_name))


def _restore(deployment_name: str, app_name: str, options: dict[str, Any]) -> DeploymentHandle[Any]:
    return DeploymentHandle(deployment_name, app_name, _options=options)


def __getattr__(name: str) -> Any:
    return _old_names.in_module(__name__, name)
