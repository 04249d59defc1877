"""LitServe under test: `python litserve_app.py ROW PORT`."""

import sys

import litserve
from iris_model import Iris as IrisModel

ROW, PORT = sys.argv[1], int(sys.argv[2])


class IrisBatched(litserve.LitAPI):
    def setup(self, device):
        self.iris = IrisModel()

    def decode_request(self, request):
        return request

    def batch(self, inputs):
        return inputs

    def predict(self, x):
        return self.iris.answers(x)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    assert ROW == "iris_batched", ROW
    api = IrisBatched(api_path="/", max_batch_size=64, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=PORT,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
