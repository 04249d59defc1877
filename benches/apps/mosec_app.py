"""mosec under test: BENCH_ROW says which row, its own arguments where it listens."""

import os
import time

from iris_model import Iris as IrisModel
from mosec import Server, Worker

ROW = os.environ["BENCH_ROW"]


class Raw(Worker):
    """Bytes in, bytes out: nothing is spent on a format."""

    def deserialize(self, data):
        return data

    def serialize(self, data):
        return data


class Ingress(Raw):
    def forward(self, data):
        return b"x"


class A(Raw):
    def forward(self, data):
        return data + b"a"


class B(Raw):
    def forward(self, data):
        return data + b"b"


class Batch(Raw):
    def forward(self, data):
        time.sleep(0.01)
        return [b"ok"] * len(data)


class IrisBatched(Worker):
    def __init__(self):
        self.iris = IrisModel()

    def forward(self, data):
        return self.iris.answers(data)


if __name__ == "__main__":
    server = Server()
    if ROW == "composition":
        for stage in (Ingress, A, B):
            server.append_worker(stage)
    elif ROW == "batch":
        server.append_worker(Batch, max_batch_size=32, max_wait_time=5)
    else:
        server.append_worker(IrisBatched, max_batch_size=64, max_wait_time=5)
    server.run()
