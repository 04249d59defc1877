"""The policies of one application: loaded once, asked with what is known, and judged by what they return.

A policy of a deployment gets an `AutoscalingContext` and returns a number of replicas and what it will find as
`policy_state` the next time. The policy of an application gets all contexts by `DeploymentID`, and returns a dict of
numbers and one of states; a deployment that it leaves out stays as it is. Classes are made once, with `policy_kwargs`.
"""

from __future__ import annotations

import inspect
import json
import math
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

from eagleray import _traceback
from eagleray._policy.named import found
from eagleray.serve._autoscaling_config import AutoscalingConfig, AutoscalingContext
from eagleray.serve.context import DeploymentID, ReplicaID

# Of what the status says of a failure.
_MOST_SHOWN = 500

Answer = tuple[str, str, str]


class _InvalidAnswerError(Exception):
    """A policy has returned what is none; the text says what."""


class Asked:
    """The policies of one application.

    Attributes:
        states: What each keeps, by deployment.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        self.states: dict[str, Any] = {}
        self._application: str = asked["application"]
        self._shown: set[str] = set()
        self._configs: dict[str, AutoscalingConfig] = {}
        self._for_all = self._loaded(asked["for_all"]) if asked["for_all"] else None
        own = {} if self._for_all else asked["by_deployment"]
        self._own = {name: self._loaded(policy) for name, policy in own.items()}

    def answer(self, known: list[dict[str, Any]]) -> list[Answer]:
        """What the policies say of each deployment: its name, a number, why there is none. Never raises."""
        contexts = {one["deployment"]: self._context(one) for one in known}
        if self._for_all is not None:
            return self._of_all(contexts)
        return [self._of_one(name, context) for name, context in contexts.items()]

    def _of_one(self, name: str, context: AutoscalingContext) -> Answer:
        try:
            policy = self._own[name]
            if isinstance(policy, Exception):
                raise policy
            number, state = _pair(policy(context))
            text = _number(number)
        except Exception as error:
            return name, "", self._failure(error)
        self.states[name] = state
        return name, text, ""

    def _of_all(self, contexts: dict[str, AutoscalingContext]) -> list[Answer]:
        try:
            if isinstance(self._for_all, Exception):
                raise self._for_all
            assert self._for_all is not None
            ids = {context.deployment_id: context for context in contexts.values()}
            numbers, states = _pair(self._for_all(ids))
            texts = {key: _number(number) for key, number in self._by_name(numbers, contexts).items()}
            kept = self._by_name(states or {}, contexts)
        except Exception as error:
            failure = self._failure(error)
            return [(name, "", failure) for name in contexts]
        self.states.update(kept)
        return [(name, texts.get(name, ""), "") for name in contexts]

    def _by_name(self, said: Any, contexts: dict[str, AutoscalingContext]) -> dict[str, Any]:
        if not isinstance(said, dict):
            raise _InvalidAnswerError(f"it returned {_shown(said)} where a dict by DeploymentID belongs")
        names = {key: key.name if isinstance(key, DeploymentID) else str(key) for key in said}
        unknown = [name for name in names.values() if name not in contexts]
        if unknown:
            raise _InvalidAnswerError(
                f"it returned something for {unknown[0]!r}; the deployments that scale are {', '.join(contexts)}"
            )
        return {names[key]: value for key, value in said.items()}

    def _loaded(self, policy: dict[str, Any]) -> Any:
        """The callable, or why there is none."""
        try:
            path = policy.get("path")
            what = pickle.loads(Path(path).read_bytes()) if path else found(policy["policy_function"])
            return what(**policy.get("policy_kwargs", {})) if inspect.isclass(what) else what
        except Exception as error:
            return error

    def _context(self, known: dict[str, Any]) -> AutoscalingContext:
        name: str = known["deployment"]
        identity = DeploymentID(name, self._application)
        state = self.states.get(name)
        return AutoscalingContext(
            deployment_id=identity,
            deployment_name=name,
            app_name=self._application,
            current_num_replicas=known["current"],
            target_num_replicas=known["target"],
            running_replicas=[ReplicaID(one, identity) for one in known["running"]],
            total_num_requests=known["total"],
            total_queued_requests=known["queued"],
            capacity_adjusted_min_replicas=known["min"],
            capacity_adjusted_max_replicas=known["max"],
            policy_state=dict(state) if isinstance(state, dict) else {},
            last_scale_up_time=known["scaled_up_at"],
            last_scale_down_time=known["scaled_down_at"],
            current_time=known["now"],
            config=self._config(known["config"]),
        )

    def _config(self, text: str) -> AutoscalingConfig:
        if text not in self._configs:
            stated = json.loads(text)
            policy = stated.get("policy", {})
            stated["policy"] = {key: policy[key] for key in ("policy_function", "policy_kwargs") if key in policy}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._configs[text] = AutoscalingConfig.model_validate(stated)
        return self._configs[text]

    def _failure(self, error: Exception) -> str:
        """For the status; the traceback is printed once, for the log."""
        if isinstance(error, _InvalidAnswerError):
            return str(error)
        text = _traceback.text_of(error)
        if text not in self._shown and len(self._shown) < 100:
            self._shown.add(text)
            sys.stderr.write(f"an autoscaling policy has failed:\n{text}\n")
            sys.stderr.flush()
        line = f"it raised {_traceback.line_of(error)}"
        place = _traceback.place_of(error)
        return f"{line} ({place})"[:_MOST_SHOWN] if place else line[:_MOST_SHOWN]


def _pair(returned: Any) -> tuple[Any, Any]:
    """A decision and a state; the first alone keeps nothing."""
    if inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        raise _InvalidAnswerError("it is async, and nobody awaits a policy; write it with `def`")
    if isinstance(returned, tuple):
        if len(returned) != 2:
            raise _InvalidAnswerError(f"it returned {_shown(returned)}; a policy returns (decision, state)")
        return returned
    return returned, {}


def _number(value: Any) -> str:
    """A number as the controller reads it.

    Raises:
        _InvalidAnswerError: it is none.
    """
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise _InvalidAnswerError(f"it returned {_shown(value)}, which is no number of replicas")
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise _InvalidAnswerError(f"it returned {_shown(value)}, which is no number of replicas")
    return repr(number)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
