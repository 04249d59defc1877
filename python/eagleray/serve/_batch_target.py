"""How large batches should be, and how long to fill them, so that nearly all items are done within a target.

Pure: no clock, no queue. Times come in as arguments, decisions go out; `_batch_learning` asks.

What is learned:

- **Cost.** A batch of n items takes about a + b·n seconds, fitted by least squares in which older batches weigh less
  and outliers are drawn in. The worst of 100 is the fit times a high quantile of what was seen over it.
- **Arrivals.** k(w): how many items come within w after the function could have begun, for w up to a/2. Watched for
  every batch, whether it waited or not, so a change of the load shows without experiments.

What is decided:

- **The size limit**: the largest n for which an item that has just missed a batch of n, and is in the next of n, is
  done in time: cost(n) · (1 + 1/concurrent) within the target less a reserve. It at most doubles over what was tried.
  Batches that take longer all the same, since costs need not be linear, draw a ceiling down by a third, and full ones
  in time raise it by a twentieth.
- **The hold**: the w for which (n + k(w)) / (w + a + b·(n + k(w))), the items per second, is highest. If waiting gains
  less than a twentieth there is none; so a lone client never waits, nor does anybody when the function is fast.

When one item alone takes longer than allowed the target cannot be met; then batches are at most twice as slow as one
item, since smaller ones would only make the queue longer.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

# Part of the target that is ours; the rest is for what surrounds a batch (HTTP, the loop) and was not foreseen.
_OWN = 0.8
# Weight that a batch keeps with each that follows.
_KEEP = 0.97
_QUANTILE = 0.98
_FIRST_LIMIT = 8
# Parts of `a` for which arrivals are counted.
_WINDOWS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
_GAIN = 1.05


class Cost:
    """Seconds of a batch by its size."""

    def __init__(self) -> None:
        self.fixed_s = 0.0
        self.item_s = 0.0
        self.largest = 0
        self.known = False
        self._weight = self._n = self._nn = self._s = self._ns = 0.0
        self._deviation_s = 0.0
        self._ratios: deque[float] = deque(maxlen=200)
        self._spread = 1.5
        self._until_spread = 0

    def learn(self, count: int, seconds: float) -> None:
        """A batch of `count` took `seconds`."""
        expected = self.mean_s(count)
        if self.known and expected > 0:
            self._ratios.append(seconds / expected)
            self._until_spread -= 1
            if self._until_spread <= 0:
                self._until_spread = 20
                ordered = sorted(self._ratios)
                self._spread = max(1.0, ordered[min(len(ordered) - 1, int(_QUANTILE * len(ordered)))])
            error = seconds - expected
            if self._weight > 5 and self._deviation_s > 0:
                error = max(-4 * self._deviation_s, min(4 * self._deviation_s, error))
            self._deviation_s = _KEEP * self._deviation_s + (1 - _KEEP) * abs(error)
            seconds = expected + error
        else:
            self._deviation_s = seconds / 2
        self.known = True
        self.largest = max(count, math.floor(self.largest * 0.999))
        for name, value in (
            ("_weight", 1.0), ("_n", count), ("_nn", count * count), ("_s", seconds), ("_ns", count * seconds),
        ):  # fmt: skip
            setattr(self, name, _KEEP * getattr(self, name) + value)
        self._fit()

    def _fit(self) -> None:
        mean_n, mean_s = self._n / self._weight, self._s / self._weight
        variance = self._nn / self._weight - mean_n * mean_n
        if variance > 0.01 * mean_n * mean_n or variance > 1:
            slope = (self._ns / self._weight - mean_n * mean_s) / variance
        else:
            # All of one size say nothing about others: half of it is taken for fixed.
            slope = mean_s / mean_n / 2
        self.item_s = min(max(slope, 0.0), mean_s / mean_n)
        self.fixed_s = max(0.0, mean_s - self.item_s * mean_n)

    def mean_s(self, count: float) -> float:
        """Expected seconds of a batch."""
        return self.fixed_s + self.item_s * count

    def bound_s(self, count: float) -> float:
        """Seconds that nearly all batches of this size stay within."""
        return self.mean_s(count) * self._spread

    def largest_within(self, seconds: float) -> float:
        """The largest size whose bound is within `seconds`; may be below 1, or infinite."""
        left = seconds / self._spread - self.fixed_s
        if left < 0:
            return 0.0
        return math.inf if self.item_s <= 0 else left / self.item_s


class Arrivals:
    """How many items come within a time after the function could have begun."""

    def __init__(self) -> None:
        self._counts = [0.0] * len(_WINDOWS)
        self._seen = False

    def learn(self, fixed_s: float, since: float, arrived: Sequence[float]) -> None:
        """`arrived`: times of all arrivals after `since`, in order, until a batch of at least `fixed_s` had ended."""
        keep = 0.8 if self._seen else 0.0
        self._seen = True
        for place, part in enumerate(_WINDOWS):
            count = bisect_right(arrived, since + part * fixed_s)
            self._counts[place] = keep * self._counts[place] + (1 - keep) * count

    def windows(self, fixed_s: float) -> list[tuple[float, float]]:
        """(seconds, expected arrivals), by rising time."""
        return [(part * fixed_s, count) for part, count in zip(_WINDOWS, self._counts, strict=True)]


class Tuner:
    """Decides for one queue."""

    def __init__(self, target_s: float, concurrent: int) -> None:
        self.cost = Cost()
        self.arrivals = Arrivals()
        self._budget_s = _OWN * target_s
        # An item may just have missed a batch; with several at a time the next one ends sooner.
        self._batch_s = self._budget_s / (1 + 1 / concurrent)
        self._ceiling = math.inf
        self._overruns: deque[bool] = deque(maxlen=50)

    def learn(self, count: int, seconds: float) -> None:
        """A batch of `count` took `seconds`."""
        allowed_s = max(self._batch_s, 2 * self.cost.bound_s(1)) if self.cost.known else self._batch_s
        full = count >= self.limit()
        self.cost.learn(count, seconds)
        self._overruns.append(seconds > allowed_s)
        if count > 1 and seconds > allowed_s and sum(self._overruns) > 1:
            self._ceiling = max(1.0, count * 2 / 3)
            self._overruns.clear()
        elif full and seconds <= allowed_s and self._ceiling < math.inf:
            self._ceiling += max(1.0, self._ceiling / 20)

    @property
    def unattainable(self) -> bool:
        """Whether one item alone takes longer than allowed."""
        return self.cost.known and self.cost.mean_s(1) > self._budget_s

    def limit(self, oldest_wait_s: float = 0.0) -> int:
        """How many items a batch may have whose oldest has waited so long."""
        if not self.cost.known:
            return _FIRST_LIMIT
        # Items that are late already would only be later behind small batches.
        allowed_s = self._budget_s if oldest_wait_s > self._batch_s else self._batch_s
        allowed_s = max(allowed_s, 2 * self.cost.bound_s(1))
        tried = max(_FIRST_LIMIT, 2 * self.cost.largest)
        return max(1, math.floor(min(self.cost.largest_within(allowed_s), self._ceiling, tried)))

    def hold(self, count: int, oldest_wait_s: float, limit: int) -> tuple[float, float]:
        """For how many seconds to fill a batch of `count`, and at which size to stop before; (0, count): go now."""
        best_s, best_count = 0.0, float(count)
        if not self.cost.known:
            return best_s, best_count
        best_rate = _GAIN * count / max(self.cost.mean_s(count), 1e-9)  # a clock may say that it took no time
        for seconds, more in self.arrivals.windows(self.cost.fixed_s):
            total = min(count + more, float(limit))
            if oldest_wait_s + seconds + self.cost.bound_s(total) > self._budget_s:
                break
            rate = total / max(seconds + self.cost.mean_s(total), 1e-9)
            if more >= 0.5 and rate > best_rate:
                best_s, best_count, best_rate = seconds, total, rate
        return best_s, best_count
