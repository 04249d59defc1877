"""Exceptions as they travel from a replica to a caller, and tracebacks as users read them."""

import pickle
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

from eagleray import _traceback, _values
from eagleray._user_code import errors
from eagleray.serve import handle
from eagleray.serve._client import error_from
from eagleray.serve.exceptions import RayServeException


class TwoArguments(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class KeywordsOnly(ValueError):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.lock = threading.Lock()


class NoFile(OSError):
    def __init__(self, path: str, *, hint: str) -> None:
        super().__init__(2, "no such file", path)
        self.hint = hint


class Demanding(Exception):
    def __new__(cls, *, key: str) -> "Demanding":
        return super().__new__(cls, key)

    def __init__(self, *, key: str) -> None:
        super().__init__(key)


def arrived(error: BaseException) -> BaseException:
    """What a caller gets of it."""
    try:
        raise error
    except BaseException as raised:
        return error_from(errors.dump(raised), "app/Model")


@pytest.mark.contract("3.3/exception")
def test_an_exception_that_pickle_cannot_build_again_arrives_as_its_own_type() -> None:
    two = arrived(TwoArguments(7, "too late"))
    assert (type(two), str(two), two.code) == (TwoArguments, "7: too late", 7)  # type: ignore[attr-defined]
    keywords = arrived(KeywordsOnly(code=3))
    assert (type(keywords), str(keywords), keywords.code) == (KeywordsOnly, "code 3", 3)  # type: ignore[attr-defined]
    assert not hasattr(keywords, "lock"), "an attribute that cannot be pickled stays behind"
    demanding = arrived(Demanding(key="k"))
    assert (type(demanding), str(demanding)) == (Demanding, "k")
    missing = arrived(NoFile("/data", hint="mount it"))
    assert isinstance(missing, NoFile)
    assert (missing.errno, missing.filename, missing.hint) == (2, "/data", "mount it")
    error = ValueError("noted")
    error.add_note("a note")
    assert arrived(error).__notes__ == ["a note"]


def test_an_exception_from_a_replica_of_an_older_release_arrives_as_its_own_type() -> None:
    now = pickle.dumps(errors._Bare(KeywordsOnly(code=3)), protocol=0)
    before = now.replace(b"eagleray._user_code.errors", b"eagleray._replica.errors")
    assert before != now
    error = pickle.loads(before)
    assert (type(error), error.code, str(error)) == (KeywordsOnly, 3, "code 3")


@pytest.mark.contract("3.3/exception")
def test_an_exception_that_cannot_be_built_at_all_says_what_it_was() -> None:
    locked = arrived(LookupError("k", threading.Lock()))
    assert type(locked) is RayServeException
    assert "LookupError: ('k', <unlocked" in str(locked)
    assert "(the exception itself cannot be pickled" in str(locked)
    assert "test_remote_errors.py" in str(locked.__cause__)


class Group(ExceptionGroup[Exception]):
    def __new__(cls, code: int, errors: list[Exception]) -> "Group":
        made = super().__new__(cls, f"code {code}", errors)
        made.code = code  # type: ignore[attr-defined]
        return made

    def __init__(self, code: int, errors: list[Exception]) -> None: ...


@pytest.mark.contract("3.3/exception")
def test_a_group_keeps_its_type_and_its_members_theirs() -> None:
    inner = ExceptionGroup("inner", [TwoArguments(7, "too late"), LookupError(threading.Lock())])
    group: Any = arrived(ExceptionGroup("outer", [ValueError("plain"), inner]))
    assert (type(group), group.message) == (ExceptionGroup, "outer")
    plain, nested = group.exceptions
    assert (type(plain), str(plain), type(nested)) == (ValueError, "plain", ExceptionGroup)
    two, lost = nested.exceptions
    assert (type(two), two.code) == (TwoArguments, 7)
    assert (type(lost), "LookupError" in str(lost)) == (RayServeException, True)
    own: Any = arrived(Group(5, [Demanding(key="k")]))
    assert (type(own), own.code, type(own.exceptions[0])) == (Group, 5, Demanding)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(3), StopAsyncIteration()])
def test_what_would_end_the_caller_or_its_loop_arrives_as_an_ordinary_error(error: BaseException) -> None:
    raised = arrived(error)
    assert type(raised) is RayServeException
    assert f"app/Model raised builtins.{type(error).__name__}" in str(raised)


def test_tracebacks_leave_out_our_frames_where_there_are_the_users() -> None:
    def of_user(response: Any) -> None:
        response.__reduce__()

    response = handle.DeploymentResponse.__new__(handle.DeploymentResponse)
    with pytest.raises(RayServeException) as caught:
        of_user(response)
    whole, shown = "".join(traceback.format_exception(caught.value)), _traceback.text_of(caught.value)
    assert "_responses.py" in whole
    assert "_responses.py" not in shown
    assert shown.splitlines()[1].endswith("in test_tracebacks_leave_out_our_frames_where_there_are_the_users")
    assert shown.endswith("take .result()) and pass the value\n")


def test_tracebacks_keep_our_frames_where_there_are_no_others() -> None:
    with pytest.raises(ValueError, match="cut off") as caught:
        _values.load(b"\x01")
    first = caught.value.__traceback__
    assert first is not None
    caught.value.__traceback__ = first.tb_next
    assert str(Path(_values.__file__)) in _traceback.text_of(caught.value)
