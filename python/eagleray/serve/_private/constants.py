"""As `ray.serve._private.constants`, of which programs use these. Nothing of Eagleray itself depends on it."""

from eagleray.serve.config import default_http_host, default_http_port

SERVE_DEFAULT_APP_NAME = "default"
SERVE_LOGGER_NAME = "eagleray.serve"
DEFAULT_HTTP_HOST = default_http_host()
DEFAULT_HTTP_PORT = default_http_port()
