"""What tests of batches share: a batch function that notes its calls, and how to wait for what is due."""

import asyncio
from typing import Any

import clock
from eagleray import serve


class Seen:
    """A batch function that notes the time and the items of each call, and takes a second for it."""

    def __init__(self, seconds: float = 1.0, **options: Any) -> None:
        self.calls: list[tuple[float, list[Any]]] = []
        self.running = self.most_running = 0

        @serve.batch(**options)
        async def double(items: list[Any]) -> list[Any]:
            self.calls.append((clock.now(), items))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            try:
                await asyncio.sleep(seconds)
            finally:
                self.running -= 1
            return [item * 2 for item in items]

        self.double = double

    @property
    def sizes(self) -> list[int]:
        return [len(items) for _, items in self.calls]


async def asynchronous(items: list[Any]) -> list[Any]:
    return items


async def turn() -> None:
    """Lets everything run that can run now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def collect(stream: Any) -> list[Any]:
    return [value async for value in stream]
