"""Calls of a process take turns in the order in which they came."""

import os
import signal
import threading

import pytest

from eagleray._driver.order import Order
from machine import eventually


def test_threads_are_let_in_as_they_came() -> None:
    order, came = Order(), []

    def call(number: int) -> None:
        with order:
            came.append(number)

    with order:
        threads = []
        for number in range(20):
            thread = threading.Thread(target=call, args=(number,))
            thread.start()
            threads.append(thread)
            eventually(lambda: len(order._waiting) == len(threads), "it waits")
        with order:  # who has it may take it again
            assert not came
        assert not came
    for thread in threads:
        thread.join(30)
    assert came == list(range(20))
    assert order._owner is None


def test_an_error_gives_it_on() -> None:
    order = Order()
    with pytest.raises(ValueError, match="mine"), order:
        raise ValueError("mine")
    with order:
        pass


def test_ctrl_c_gives_up_the_place() -> None:
    order, inside, leave, after = Order(), threading.Event(), threading.Event(), threading.Event()
    # Also where Ctrl-C is ignored, as in a background job.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def hold() -> None:
        with order:
            inside.set()
            leave.wait(30)

    def interrupt() -> None:
        eventually(lambda: order._waiting, "the main thread waits")
        os.kill(os.getpid(), signal.SIGINT)

    def late() -> None:
        with order:
            after.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(30)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        with pytest.raises(KeyboardInterrupt), order:
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    interrupter.join(30)
    assert not order._waiting
    last = threading.Thread(target=late)
    last.start()
    leave.set()
    assert after.wait(30), "whoever comes after is let in"
    holder.join(30)
    last.join(30)
