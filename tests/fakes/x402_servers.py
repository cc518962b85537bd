"""Image endpoints built with the official x402 packages: FastAPI and Flask here, express and Hono in `peers/`.

Each answers in the shape of the model's name: `acme/data`, `acme/raw`, `acme/image`, `acme/images`, `acme/output` or
`acme/url`.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fastapi
import flask
from starlette.applications import Starlette
from werkzeug.serving import make_server
from x402.http import FacilitatorConfig, HTTPFacilitatorClient, HTTPFacilitatorClientSync
from x402.http.middleware.fastapi import payment_middleware
from x402.http.middleware.flask import payment_middleware as flask_payment_middleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.exact.server import ExactEvmScheme
from x402.server import x402ResourceServer, x402ResourceServerSync

from blockrun_magic.payments.x402.networks import BASE
from fakes.facilitator import PAYEE, Facilitator
from fakes.gateway import picture_for
from fakes.http_server import Served

__all__ = ["IMAGE", "PRICE", "SHAPES", "served"]

PRICE = 42_000
IMAGE = picture_for("an image of a peer")
_URI = "data:image/png;base64," + base64.b64encode(IMAGE).decode()
SHAPES: dict[str, Any] = {
    "data": {"created": 1, "data": [{"url": _URI}]},
    "image": {"image": base64.b64encode(IMAGE).decode()},
    "images": {"images": [{"url": _URI}]},
    "output": {"output": [_URI]},
    "url": {"url": _URI},
}
_PATHS = ("/v1/images/generations", "/draw")


def _routes() -> dict[str, RouteConfig]:
    option = PaymentOption(scheme="exact", pay_to=PAYEE, price=f"${PRICE / 1e6}", network=BASE.id)
    return {f"POST {path}": RouteConfig(accepts=option, description="an image") for path in _PATHS}


class _FastApi(Served):
    def __init__(self, facilitator: Facilitator) -> None:
        super().__init__()
        self._facilitator = HTTPFacilitatorClient(FacilitatorConfig(url=facilitator.url))

    def _run(self) -> None:
        self._loop.run_until_complete(self._server.serve(sockets=[self._socket]))
        self._loop.run_until_complete(self._facilitator.aclose())
        self._loop.close()

    def app(self) -> Starlette:
        server = x402ResourceServer(self._facilitator)
        server.register(BASE.id, ExactEvmScheme())
        app = fastapi.FastAPI()
        app.middleware("http")(payment_middleware(_routes(), server))

        async def draw(body: dict[str, Any]) -> fastapi.Response:
            shape = body["model"].partition("/")[2]
            if shape == "raw":
                return fastapi.Response(IMAGE, media_type="image/png")
            return fastapi.responses.JSONResponse(SHAPES[shape])

        for path in _PATHS:
            app.post(path)(draw)
        return app


def _flask_app(facilitator: HTTPFacilitatorClientSync) -> flask.Flask:
    server = x402ResourceServerSync(facilitator)
    server.register(BASE.id, ExactEvmScheme())
    app = flask.Flask("peer")
    flask_payment_middleware(app, _routes(), server)

    def draw() -> Any:
        shape = flask.request.get_json()["model"].partition("/")[2]
        return flask.Response(IMAGE, mimetype="image/png") if shape == "raw" else flask.jsonify(SHAPES[shape])

    for path in _PATHS:
        app.add_url_rule(path, path.replace("/", "_"), draw, methods=["POST"])
    return app


@contextmanager
def served(kind: str, facilitator: Facilitator) -> Iterator[str]:
    """Run the peer "fastapi" or "flask", and yield its URL."""
    if kind == "fastapi":
        with _FastApi(facilitator) as server:
            yield f"http://127.0.0.1:{server.port}"
        return
    client = HTTPFacilitatorClientSync(FacilitatorConfig(url=facilitator.url))
    wsgi = make_server("127.0.0.1", 0, _flask_app(client), threaded=True)
    thread = threading.Thread(target=wsgi.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{wsgi.server_port}"
    finally:
        wsgi.shutdown()
        thread.join()
        wsgi.server_close()
        client.close()
