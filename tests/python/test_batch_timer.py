"""The timer of batches that are held for fractions of a millisecond, on the loop that replicas run on."""

import asyncio

import pytest

from eagleray.serve._batch_learning import FineTimer


def test_a_fine_timer_calls_back_once_unless_it_is_cancelled() -> None:
    uvloop = pytest.importorskip("uvloop")
    called: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        timer, over = FineTimer(loop), asyncio.Event()
        timer.call_later(3600, lambda: called.append("replaced"))
        timer.call_later(1e-4, lambda: called.append("cancelled"))
        timer.cancel()
        timer.call_later(1e-4, over.set)
        await asyncio.wait_for(over.wait(), 30)
        timer.call_later(0, lambda: (called.append("now"), over.set()))
        over.clear()
        await asyncio.wait_for(over.wait(), 30)

    uvloop.run(main())
    assert called == ["now"]
