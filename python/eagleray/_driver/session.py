"""The connection of a driver to one node and its controller."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from eagleray import _core, _routers
from eagleray._driver import blobs, progress
from eagleray._driver.node import Address
from eagleray._driver.output import OutputPrinter
from eagleray.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from eagleray._driver.build import Built
    from eagleray.serve.config import HTTPOptions


#: `serve.shutdown` waits this long for the applications of a node that goes on, then warns.
SHUTDOWN_TIMEOUT_S = 30.0
#: `serve.delete` waits this long.
DELETE_TIMEOUT_S = 60.0
#: Status of an application whose newest revision has come up, or has not.
_SETTLED = ("RUNNING", "DEPLOY_FAILED")


class Deployed(NamedTuple):
    """What became of applications that were sent: name and revision of each that was taken, errors of the others."""

    sent: list[tuple[str, str]]
    refused: list[Exception]


class Session:
    """Calls to one node. Any thread may use it; calls wait for their answers and Ctrl-C ends the wait."""

    any_made: ClassVar[bool] = False

    def __init__(self, address: Address) -> None:
        self._address = address
        self._node = _core.Client(address.socket_path)
        self.info: dict[str, Any] = self._node.node_info()
        self._controller = _core.Client(self.info["controller_socket_path"])
        self._ended = threading.Event()
        self._printer = OutputPrinter(address.socket_path, self._ended)
        self._closed = False
        self.announced: set[str] = set()  # names of applications that were said to run
        self.sent: set[str] = set()  # of those that were taken
        Session.any_made = True

    @property
    def owned(self) -> bool:
        """Whether the node belongs to this process."""
        return self._address.own is not None

    def alive(self) -> bool:
        """Whether the node still answers, as far as is known without asking it."""
        if self._closed or self._ended.is_set():
            return False
        return self._address.own is None or self._address.own.alive()

    def node_info(self) -> dict[str, Any]:
        """What the node says of itself, now."""
        self.info = self._node.node_info()
        return self.info

    def status(self) -> list[dict[str, Any]]:
        """Status of every application."""
        return self._controller.status()

    def reasons(self) -> list[dict[str, Any]]:
        """What is not fine of the controller itself."""
        return self._controller.reasons()

    def deploy(self, built: list[Built], *, tell: bool = True) -> Deployed:
        """Stores the blobs and deploys. Returns when what was not refused is durable; `settle` waits for it.

        With `tell`, what the controller says of each is logged: which deployments roll, and why.

        All are sent before the first is waited for, so they start side by side. One that the controller refuses does
        not keep the others from it.

        Raises:
            RayServeException: a route prefix is used by another application; of several, nothing was sent then.
        """
        if len(built) > 1:
            self._check_prefixes(built)
        deployed = Deployed([], [])
        for one in built:
            try:
                deployed.sent.append((one.spec["name"], self._send(one, tell=tell)))
            except (ValueError, RayServeException) as error:
                deployed.refused.append(error)
        return deployed

    def settle(self, deployed: Deployed, *, wait: bool) -> None:
        """Raises what was refused; with `wait`, returns when all applications run.

        Raises:
            ValueError, RayServeException: the controller refused one; the others run.
            RuntimeError: some failed; with the remote tracebacks.
        """
        sent, refused = deployed
        failures = self._settle(sent) if wait else []
        if (refused and failures) or len(refused) > 1:
            raise RuntimeError("\n\n".join([*map(str, refused), *failures]))
        if refused and sent:
            others = ", ".join(name for name, _ in sent)
            raise type(refused[0])(f"{refused[0]}; others of this call were deployed: {others}")
        if refused:
            raise refused[0]
        if failures:
            raise RuntimeError("\n\n".join(failures))

    def _check_prefixes(self, built: list[Built]) -> None:
        """Refuses all for one whose prefix is another application's; the controller would refuse that one alone."""
        used = {one["route_prefix"]: one["name"] for one in self.status() if one["status"] != "DELETING"}
        for one in built:
            name, prefix = one.spec["name"], one.spec["route_prefix"]
            if prefix and used.get(prefix, name) != name:
                raise RayServeException(
                    f"route_prefix {prefix!r} of {name!r} is used by application {used[prefix]!r}, so nothing was "
                    f"deployed; give one of them another route_prefix, or delete {used[prefix]!r} first"
                )

    def _settle(self, sent: list[tuple[str, str]]) -> list[str]:
        """Waits until each of these revisions runs or has failed. Returns what to say of those that failed."""
        failures = []
        for name, revision in sent:
            progress.now(functools.partial(self._waiting_for, name))
            settled = self._controller.await_application(name, revision)
            self._printer.flush()
            if settled["status"] == "RUNNING":
                self.announce(settled)
            else:
                failures.append(self.failure(settled))
        return failures

    def settled(self, wanted: dict[str, str]) -> dict[str, dict[str, Any]]:
        """Status of those applications whose wanted revision runs, so that requests meet it, or has failed.

        One that somebody else has deployed meanwhile, or deleted, counts as failed, with a message that says so.
        """
        there = {one["name"]: one for one in self.status()}
        found = {}
        for name, revision in wanted.items():
            one = there.get(name)
            if one is None or one["revision"] != revision:
                became = "was deleted" if one is None else "was deployed again"
                message = f"it {became} by somebody else meanwhile"
                found[name] = {"name": name, "status": "DEPLOY_FAILED", "message": message, "deployments": []}
            elif one["status"] in _SETTLED:
                found[name] = self._controller.await_application(name, revision)
        if found:
            self._printer.flush()
        return found

    def counted(self, name: str, revision: str) -> tuple[int, int] | None:
        """Requests answered and failed while this revision was deployed; None until that is known."""
        for one in self.status():
            if one["name"] == name and one["revision"] == revision and one.get("deploy", {}).get("state") == "done":
                return one["deploy"]["answered"], one["deploy"]["failed"]
        return None

    def _waiting_for(self, name: str) -> str:
        """What an application that does not run yet waits for."""
        for application in self.status():
            if application["name"] == name:
                missing = [_missing(one) for one in application["deployments"] if one["status"] != "HEALTHY"]
                return f"waiting for application {name!r}: {'; '.join(missing) or application['status']}"
        return f"waiting for application {name!r}"

    def _send(self, built: Built, *, tell: bool) -> str:
        """Returns the revision, which is durable."""
        from eagleray.serve._log import logger

        for warning in built.warnings:
            logger().warning("%s", warning)
        progress.now(f"storing the code of application {built.spec['name']!r}")
        self._printer.watch(built.spec["name"])
        with blobs.stored(self.info["blob_directory"], built.blobs, durable=not self.owned):
            deployed = self._ask_to_deploy(built.spec)
        for note in deployed["notes"] if tell else ():
            logger().info("%s", note)
        return str(deployed["revision"])

    def _ask_to_deploy(self, spec: dict[str, Any]) -> dict[str, Any]:
        name = spec["name"]
        was_sent = name in self.sent
        self.sent.add(name)  # before: a Ctrl-C may come when it was taken and nobody knows yet
        try:
            return self._controller.deploy(spec)
        except (ValueError, RayServeException):
            if not was_sent:
                self.sent.discard(name)
            raise

    def announce(self, settled: dict[str, Any]) -> None:
        """Says that it runs, and where."""
        from eagleray.serve._log import logger

        route = settled["route_prefix"]
        where = ""
        if route:
            address = self.info["http_address"]
            where = f" at {address}{route}" if address else ", without HTTP"
        self.announced.add(settled["name"])
        logger().info("application %r is running%s", settled["name"], where)

    def failure(self, settled: dict[str, Any], *, again: str = "run again") -> str:
        """What to say of an application that failed to deploy; `again` is how it is tried again."""
        messages = [settled["message"]] if settled["message"] else []
        messages += [
            f"deployment {deployment['name']}: {deployment['message']}"
            for deployment in settled["deployments"]
            if deployment["message"] and deployment["message"] not in settled["message"]
        ]
        text = "\n".join(messages).rstrip() or "no reason was given"
        # The logs of a node of our own go with it, and what replicas wrote was on this terminal.
        logs = "" if self.owned else f"; everything the replicas wrote is in {self.info['log_directory']}"
        return (
            f"application {settled['name']!r} failed to deploy ({settled['status']}).\n{text}\n"
            f"Next: correct what the error names and {again}{logs}"
        )

    def begin_delete(self, name: str) -> None:
        """Deletes an application. Returns when that is durable: what is asked for later comes later."""
        self._controller.begin_delete(name)

    def await_deleted(self, name: str) -> None:
        """Waits until the application is gone, or deployed again.

        Raises:
            TimeoutError: it is neither within `DELETE_TIMEOUT_S`.
        """
        self._controller.await_deleted(name, DELETE_TIMEOUT_S)

    def rollback(self, name: str, revision: str = "") -> dict[str, Any]:
        """Back to a revision, the one before the current one unless named. Returns when that is durable."""
        return self._controller.rollback(name, revision)

    def await_rollback(self, name: str, deployed: dict[str, Any]) -> None:
        """Waits until the revision runs."""
        settled = self._controller.await_application(name, deployed["revision"])
        if settled["status"] != "RUNNING":
            raise RuntimeError(self.failure(settled))

    def block(self) -> None:
        """Sleeps until Ctrl-C, SIGTERM (which ends the script with status 143), or until the node ends."""
        exit_when_terminated()
        # In slices: a signal that lands on another thread, or just before the wait, does not wake this one.
        while not self._ended.wait(0.5):
            pass
        self.check()

    def check(self) -> None:
        """Raises RuntimeError if the node has ended."""
        if not self._ended.is_set():
            return
        raise RuntimeError(
            f"the node {self.info['name']!r} (pid {self.info['pid']}) has ended; its log is in "
            f"{self.info['log_directory']}"
        )

    def shutdown(self) -> None:
        """Ends all applications; the node too if it is ours."""
        self._closed = True
        if self._address.own is not None:
            self._address.own.end()
            self._printer.finish()
        else:
            _routers.close_all()
            self._delete_all()
            self._printer.close()

    def _delete_all(self) -> None:
        try:
            self._controller.delete_all(SHUTDOWN_TIMEOUT_S)
        except TimeoutError:
            from eagleray.serve._log import logger

            logger().warning(
                "applications of the node %r are still ending after %.0f s; they go on doing so, and `eagleray status` "
                "shows what is left",
                self.info["name"],
                SHUTDOWN_TIMEOUT_S,
            )

    def warn_of_other_address(self, options: HTTPOptions) -> None:
        """Says which of the options asked for differ from those that the node runs with."""
        scheme = "http" if options.ssl_certfile is None else "https"
        wanted = "" if options.disabled else f"{scheme}://{options.host}:{options.port}"
        of_start = {
            "limits and time limits": bool(options.limits)
            or options.request_timeout_s is not None
            or options.keep_alive_timeout_s != 90,
            "trusted_proxies": bool(options.trusted_proxies),
            "allowed_hosts": bool(options.allowed_hosts),
        }
        if given := [name for name, is_given in of_start.items() if is_given]:
            from eagleray.serve._log import logger

            logger().warning(
                "the node %r runs already, so %s of http_options have no effect; they are given to `eagleray start`",
                self.info["name"],
                " and ".join(given),
            )
        there = self.info["http_address"]
        # Port 0 is whichever the node has.
        same = bool(there) if options.port == 0 and wanted else there == wanted
        if not same:
            from eagleray.serve._log import logger

            logger().warning(
                "the node %r runs already and listens on %s; http_options asking for %s have no effect",
                self.info["name"],
                there or "nothing",
                wanted or "no HTTP",
            )


def _missing(deployment: dict[str, Any]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in deployment["replica_states"].items() if count)
    message = deployment["message"].partition("\n")[0]
    return f"{deployment['name']} has {states or 'no replica yet'}{': ' if message else ''}{message}"


def exit_when_terminated() -> None:
    """SIGTERM as an orderly exit, so that the node finishes its requests; a handler of the user's own stays.

    Without one the script would die on the spot, and its node would give what runs a moment only.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
