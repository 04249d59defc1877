"""Generated applications and requests, valid, invalid and hostile: both paths answer the same.

`make test` sends the same 1,000 requests always, `make fastapi-generated` as many others as it is told to.
"""

import collections
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from both_paths import both_of_all
from generated import Maker, applications, requests

ASKED = os.environ.get("EAGLERAY_GENERATED_REQUESTS")
REQUESTS = int(ASKED or 1000)
OF_EACH = 10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(60 + REQUESTS // 5)
def test_generated_applications():
    counts: collections.Counter[str] = collections.Counter()

    @settings(
        max_examples=REQUESTS // OF_EACH,
        derandomize=ASKED is None,
        database=None,
        deadline=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        drawn = data.draw(applications())
        sent = [data.draw(requests(drawn)) for _ in range(OF_EACH)]
        for one, (asgi, compiled) in zip(
            sent, both_of_all(lambda calls: Maker(calls).application(drawn), sent), strict=True
        ):
            assert compiled[:3] == asgi[:3], one
            counts["requests"] += 1
            counts["compiled"] += compiled.compiled
            status = asgi.messages[0][0] if asgi.messages else 0
            counts[f"status {status // 100}xx" if status else "no answer"] += 1
            counts["raised"] += bool(asgi.raised)

    run()
    print(f"\n{dict(counts)}, differences: 0")
    assert counts["requests"] >= REQUESTS
    assert counts["compiled"] > counts["requests"] / 2
    for of_each_kind in ("status 2xx", "status 4xx", "status 5xx", "raised"):
        assert counts[of_each_kind] > counts["requests"] / 100, counts
