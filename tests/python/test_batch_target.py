"""`target_latency_ms`: what is learned and decided, and whole runs in a simulated hour of few real seconds."""

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

import clock
from eagleray import serve
from eagleray.serve._batch_target import Arrivals, Cost, Tuner

# --- what is learned and decided --------------------------------------------------------------------------------------


def test_the_cost_of_a_batch_is_learned_through_noise_and_outliers() -> None:
    rng, cost = random.Random(1), Cost()
    for number in range(400):
        count = rng.randint(1, 64)
        slow = 8 if number % 100 == 99 else 1
        cost.learn(count, (0.010 + 0.0002 * count) * rng.lognormvariate(0, 0.05) * slow)
    assert cost.mean_s(1) == pytest.approx(0.0102, rel=0.2)
    assert cost.mean_s(64) == pytest.approx(0.0228, rel=0.2)
    assert cost.bound_s(32) > cost.mean_s(32)
    assert cost.bound_s(cost.largest_within(0.03)) == pytest.approx(0.03)
    assert cost.largest_within(0.001) == 0
    # It follows a change.
    for _ in range(200):
        cost.learn(rng.randint(1, 64), 0.001)
    assert cost.mean_s(64) < 0.002


def test_batches_of_one_size_say_nothing_about_larger_ones() -> None:
    cost = Cost()
    for _ in range(50):
        cost.learn(8, 0.008)
    assert cost.mean_s(8) == pytest.approx(0.008)
    assert 0.008 < cost.mean_s(16) < 0.016


def test_the_size_limit_grows_from_what_was_tried_to_what_the_target_allows() -> None:
    tuner = Tuner(target_s=0.05, concurrent=1)
    limits = [tuner.limit()]
    for _ in range(100):
        count = tuner.limit()
        tuner.learn(count, 0.010 + 0.0001 * count)
        limits.append(tuner.limit())
    assert limits[0] <= 8
    assert all(later <= 2 * before for before, later in itertools.pairwise(limits))
    # 0.8 of the target for two batches one after the other: 20 ms each.
    assert 90 <= limits[-1] <= 105
    # What is late already is not made later by small batches.
    assert tuner.limit(oldest_wait_s=0.03) > limits[-1]
    # With several at a time an item waits less for the next.
    wide = Tuner(target_s=0.05, concurrent=4)
    for _ in range(100):
        wide.learn(wide.limit(), 0.010 + 0.0001 * wide.limit())
    assert wide.limit() > limits[-1]


def test_a_cost_that_rises_faster_than_it_was_fitted_draws_the_limit_down() -> None:
    tuner = Tuner(target_s=0.05, concurrent=1)
    sizes = []
    for _ in range(300):
        count = tuner.limit()
        sizes.append(count)
        tuner.learn(count, 0.001 + 0.00002 * count * count)
    # 20 ms for a batch: 30 items.
    assert sorted(sizes[100:])[-4] <= 45
    assert min(sizes[100:]) >= 12


def test_a_target_that_one_item_misses_does_not_stop_batching() -> None:
    tuner = Tuner(target_s=0.005, concurrent=1)
    assert not tuner.unattainable
    for _ in range(100):
        count = tuner.limit()
        tuner.learn(count, 0.010 + 0.0001 * count)
    assert tuner.unattainable
    assert tuner.limit() >= 32


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e6])
def test_every_limit_is_a_batch(seconds: float) -> None:
    tuner = Tuner(target_s=0.001, concurrent=1)
    for _ in range(20):
        limit = tuner.limit()
        assert limit >= 1
        tuner.learn(limit, seconds)
        held_s, goal = tuner.hold(1, 0.0, limit)
        assert (held_s, goal) == (0.0, 1.0)


def learned(arrivals: Callable[[float], list[float]], target_s: float = 0.1) -> Tuner:
    """After batches of 10 ms + 0.1 ms an item, each followed by these arrivals."""
    tuner = Tuner(target_s, concurrent=1)
    for number in range(60):
        tuner.learn(1 + number % 64, 0.010 + 0.0001 * (1 + number % 64))
        tuner.arrivals.learn(tuner.cost.fixed_s, float(number), arrivals(float(number)))
    return tuner


def test_a_batch_is_held_for_those_that_are_sure_to_come() -> None:
    tuner = learned(lambda since: [since + 0.0001 * (1 + number) for number in range(20)])
    held_s, goal = tuner.hold(20, 0.0, limit=64)
    assert 0.001 < held_s < 0.006
    assert 30 <= goal <= 40
    # Not beyond the limit, not beyond the target, not for those that do not come.
    assert tuner.hold(20, 0.0, limit=24)[1] == 24
    assert tuner.hold(20, 0.078, limit=64) == (0.0, 20.0)
    assert learned(lambda _: []).hold(20, 0.0, limit=64) == (0.0, 20.0)
    assert learned(lambda since: [since + 0.004]).hold(20, 0.0, limit=64) == (0.0, 20.0)


def test_arrivals_are_counted_by_the_time_after_the_function_was_free() -> None:
    arrivals = Arrivals()
    arrivals.learn(0.032, 10.0, [10.0005, 10.003, 10.009])
    assert arrivals.windows(0.032) == [(0.001, 1.0), (0.002, 1.0), (0.004, 2.0), (0.008, 2.0), (0.016, 3.0)]


# --- whole runs -------------------------------------------------------------------------------------------------------


class Run:
    """What came of one run in simulated time."""

    def __init__(self, options: dict[str, Any], service: Callable[[int], float], seconds: float = 3.0) -> None:
        rng = random.Random(7)
        self.rng, self.seconds = rng, seconds
        self.latencies: list[float] = []
        self.sizes: list[int] = []

        @serve.batch(**options)
        async def work(items: list[int]) -> list[int]:
            self.sizes.append(len(items))
            await asyncio.sleep(service(len(items)) * rng.lognormvariate(0, 0.05))
            return items

        self._work: Any = work

    async def _one(self) -> None:
        began = clock.now()
        await self._work(1)
        # The first tenth is for learning.
        if began > self.seconds / 10:
            self.latencies.append(clock.now() - began)

    async def _closed(self, clients: int) -> None:
        async def client() -> None:
            while clock.now() < self.seconds:
                await self._one()
                await asyncio.sleep(self.rng.uniform(0.001, 0.003))

        await asyncio.gather(*(client() for _ in range(clients)))

    async def _open(self, rate: float) -> None:
        async with asyncio.TaskGroup() as group:
            while clock.now() < self.seconds:
                await asyncio.sleep(self.rng.expovariate(rate))
                group.create_task(self._one())

    def closed(self, clients: int) -> "Run":
        """So many clients, each with one request at a time."""
        clock.run(self._closed(clients), turn_s=20e-6)
        return self

    def open(self, rate: float) -> "Run":
        """So many a second, at random, whatever comes back."""
        clock.run(self._open(rate), turn_s=20e-6)
        return self

    @property
    def p99_ms(self) -> float:
        return 1000 * sorted(self.latencies)[int(0.99 * len(self.latencies))]

    @property
    def p50_ms(self) -> float:
        return 1000 * sorted(self.latencies)[len(self.latencies) // 2]

    @property
    def rate(self) -> float:
        return len(self.latencies) / (0.9 * self.seconds)


def accelerator(count: int) -> float:
    """10 ms a call and 0.1 ms an item."""
    return 0.010 + 0.0001 * count


@pytest.mark.contract("1.3/target_latency_ms")
def test_many_clients_get_nearly_what_the_best_fixed_setting_gives_and_in_time() -> None:
    ours = Run({"target_latency_ms": 50}, accelerator).closed(64)
    fixed = [
        Run({"max_batch_size": size, "batch_wait_timeout_s": wait_s}, accelerator).closed(64)
        for size in (16, 32, 64)
        for wait_s in (0.0, 0.002, 0.01)
    ]
    best = max(run.rate for run in fixed if run.p99_ms <= 50)
    assert ours.p99_ms <= 50
    # It learned what the best of these settings was given, and that only for this load.
    assert ours.rate >= 0.9 * best


@pytest.mark.contract("1.3/target_latency_ms")
@pytest.mark.parametrize(
    ("rate", "service"),
    [
        (50, accelerator),
        (500, accelerator),
        (2000, accelerator),
        (4000, accelerator),
        (300, lambda count: 0.0005 + 0.002 * count),
        (2000, lambda count: 0.005 + 0.00005 * count + 0.000005 * count * count),
    ],
)
def test_random_arrivals_are_all_served_in_time(rate: float, service: Callable[[int], float]) -> None:
    run = Run({"target_latency_ms": 50}, service).open(rate)
    assert run.p99_ms <= 50
    assert run.rate >= 0.9 * rate


def test_a_lone_client_does_not_wait_for_others() -> None:
    run = Run({"target_latency_ms": 50}, accelerator).closed(1)
    assert run.p50_ms <= 11
    assert set(run.sizes) == {1}


def test_explicit_numbers_are_upper_bounds() -> None:
    run = Run({"target_latency_ms": 50, "max_batch_size": 12, "batch_wait_timeout_s": 0.001}, accelerator).closed(64)
    assert max(run.sizes) == 12


def test_options_of_the_target() -> None:
    for value in ("5", True, [5]):
        with pytest.raises(TypeError, match="target_latency_ms"):
            serve.batch(target_latency_ms=value)  # type: ignore[arg-type]
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="target_latency_ms"):
            serve.batch(target_latency_ms=value)
    with pytest.raises(ValueError, match="batch_size_fn"):
        serve.batch(target_latency_ms=5, batch_size_fn=len)
