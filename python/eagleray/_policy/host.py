"""A policy host: runs the autoscaling policies of one application, and tells the controller what they say.

The node starts this through `eagleray._bootstrap` as it starts a build, with what is asked as JSON on the standard
input. The code is the revision's. The controller is asked for a question, which comes when there is one, and is told
the answers with the wish for the next. Whatever a policy does wrong is an answer too. One that never returns is no
concern of this file: the controller ends the process and has another started.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import cloudpickle

from eagleray import _code, _core
from eagleray._code import finder  # noqa: F401 - before user code is importable
from eagleray._driver.build_process import keep_to_itself
from eagleray._policy.asked import Answer, Asked
from eagleray._replica.naming import set_title
from eagleray.serve import autoscaling_policy, config  # noqa: F401 - the same

if TYPE_CHECKING:
    from eagleray._bootstrap import Paths

# As the controller keeps: more is lost with this process.
_MOST_KEPT = 64 * 1024


def main(paths: Paths) -> NoReturn:
    """The whole process.

    Args:
        paths: Where modules of the user's are looked for; closed until our own are imported.
    """
    asked = json.load(sys.stdin.buffer)
    keep_to_itself()
    sys.argv = ["eagleray"]
    set_title("eagleray: policies", asked["application"], asked["policy_host"])
    paths.open(asked["sys_path"])
    _code.install(asked["code_path"])
    policies = Asked(asked)
    code = 0
    try:
        _serve(policies, asked)
    except (ConnectionError, RuntimeError, ValueError) as error:
        # There is another controller, or another revision: each has its own host.
        _print(f"the policy host ends: {error}")
    except BaseException as error:
        _print(f"the policy host ends: {type(error).__name__}: {error}")
        code = 1
    os._exit(code)  # threads of the user's may never end


def _serve(policies: Asked, asked: dict[str, Any]) -> None:
    controller = _core.Client(asked["controller"])
    own_pid = os.getpid()
    question, told = 0, b""
    answers: list[Answer] = []
    while True:
        kept = _kept(policies.states)
        news = kept if kept is not None and kept != told else None
        told = told if news is None else news
        question, contexts, before = controller.policy(asked["policy_host"], question, answers, news)
        if before:
            with contextlib.suppress(Exception):  # of another release, or of code that is no more
                policies.states = pickle.loads(before)
        answers = policies.answer(json.loads(contexts))
        if os.getpid() != own_pid:
            os._exit(0)  # a child of a policy that came back here


def _kept(states: dict[str, Any]) -> bytes | None:
    """What policies keep, for the host after this; None: it cannot be sent or is too much, and ends with this one."""
    if not any(states.values()):
        return b""
    try:
        kept: bytes = cloudpickle.dumps(states)
    except Exception:
        return None
    return kept if len(kept) <= _MOST_KEPT else None


def _print(text: str) -> None:
    with contextlib.suppress(Exception):  # it may be closed, or the user's own
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
