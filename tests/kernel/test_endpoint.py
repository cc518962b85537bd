"""The local endpoint: the image APIs of OpenAI and ClawRouter, paid for like cells."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import io
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from blockrun_magic.errors import BlockrunError
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.proxy.guard import Guard
from blockrun_magic.proxy.server import LocalEndpoint
from harness import PATIENCE
from harness.endpoint import KEY, Endpoint, running_endpoint


@pytest.fixture(scope="module")
def gateway() -> Iterator[PracticeServer]:
    """Return a practice gateway."""
    with PracticeServer() as server:
        yield server


@pytest.fixture(scope="module")
def endpoint(gateway: PracticeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Return a local endpoint for that gateway."""
    with running_endpoint(tmp_path_factory.mktemp("endpoint"), gateway) as running:
        yield running


def png(color: str | tuple[int, ...] = "navy", size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    """Return a small PNG."""
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


def uri(data: bytes) -> str:
    """Return `data` as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def opened(data: bytes) -> Image.Image:
    """Decode the image in `data`."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def error_of(response: httpx.Response) -> dict[str, Any]:
    """Return the error of a response, and check that it has OpenAI's fields."""
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert error["message"]
    return dict(error)


# -- images


def test_an_image_comes_as_a_url(endpoint: Endpoint) -> None:
    """The image's URL is on this server, and its name is the image's hash."""
    before = len(endpoint.settlements)

    body = endpoint.generate("a fox", model="google/nano-banana", size="1024x1024", n=1).json()

    image = httpx.get(body["data"][0]["url"], timeout=PATIENCE)
    assert body["data"][0]["url"].startswith(f"{endpoint.origin}/images/{hashlib.sha256(image.content).hexdigest()}")
    assert (1024, 1024) == opened(image.content).size
    assert "nosniff" == image.headers["x-content-type-options"]
    assert ("0.052500", False) == (body["price"]["amount"], body["cached"])
    assert abs(body["created"] - time.time()) < 600
    assert {"input_tokens", "output_tokens", "total_tokens", "input_tokens_details"} == set(body["usage"])
    assert [52_500] == [int(line["amount"]) for line in endpoint.settlements[before:]]
    assert endpoint.settlements[-1]["transaction"] == body["payment"]["tx_hash"]


def test_a_repeated_request_is_free(endpoint: Endpoint) -> None:
    """A bought image is free, also with the model's short name or another response format."""
    first = endpoint.generate("an owl", model="nano-banana").json()
    count = len(endpoint.settlements)

    again = endpoint.generate("an owl", response_format="b64_json", size="auto", quality="auto", user="me").json()

    assert (True, "0.000000") == (again["cached"], again["price"]["amount"])
    image = httpx.get(first["data"][0]["url"], timeout=PATIENCE).content
    assert image == base64.b64decode(again["data"][0]["b64_json"])
    assert count == len(endpoint.settlements)


def test_equal_requests_at_once_are_one_purchase(endpoint: Endpoint) -> None:
    """Concurrent equal requests get the same image, paid for once."""
    count = len(endpoint.settlements)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: endpoint.generate("a heron practice:slow=1"), range(8)))

    assert {200} == {answer.status_code for answer in answers}
    assert 1 == len({answer.json()["data"][0]["url"] for answer in answers})
    assert count + 1 == len(endpoint.settlements)


def test_clients_of_gpt_image_find_what_they_expect(endpoint: Endpoint) -> None:
    """As at OpenAI, GPT image models return base64 by default; the URL is included."""
    [image] = endpoint.generate("a boat", model="gpt-image-1").json()["data"]

    assert httpx.get(image["url"], timeout=PATIENCE).content == base64.b64decode(image["b64_json"])


def test_several_images(endpoint: Endpoint) -> None:
    """`n` images each have their own URL."""
    data = endpoint.generate("three kites", n=3).json()["data"]

    assert 3 == len({image["url"] for image in data})


@pytest.mark.parametrize(("wanted", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_the_output_format(endpoint: Endpoint, wanted: str, kind: str, response_format: str) -> None:
    """The image is converted to the requested format, and bought once for all formats."""
    body = endpoint.generate("a pear", output_format=wanted, response_format=response_format).json()

    [image] = body["data"]
    data = httpx.get(image["url"], timeout=PATIENCE).content if "url" in image else base64.b64decode(image["b64_json"])
    assert ({response_format}, kind) == (set(image), opened(data).format)


# -- edits


def test_a_mask_in_openais_manner(endpoint: Endpoint) -> None:
    """A transparent area means the same as a white one, so the second request is free."""
    source, size = png("teal", (64, 48)), (64, 48)
    transparent = Image.new("RGBA", size, (9, 9, 9, 255))
    transparent.paste((9, 9, 9, 0), (0, 0, 64, 24))
    white = Image.new("L", size, 0)
    white.paste(255, (0, 0, 64, 24))
    files = {}
    for name, mask in (("openai", transparent), ("ours", white)):
        file = io.BytesIO()
        mask.save(file, "PNG")
        files[name] = file.getvalue()

    form = httpx.post(
        f"{endpoint.url}/images/edits",
        data={"prompt": "add clouds", "model": "openai/gpt-image-1", "n": "1", "size": "1024x1024"},
        files=[("image", ("a.png", source, "image/png")), ("mask", ("m.png", files["openai"], "image/png"))],
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=PATIENCE,
    )
    again = endpoint.post(
        "/images/image2image", prompt="add clouds", model="gpt-image", image=uri(source), mask=uri(files["ours"])
    )

    assert (200, 200) == (form.status_code, again.status_code), (form.text[:500], again.text[:500])
    assert (False, True) == (form.json()["cached"], again.json()["cached"])


@pytest.mark.parametrize(("color", "opaque"), [((255, 255, 255), 255), ((200, 0, 0), 255), ((0, 0, 0), 1)])
def test_transparent_may_change_whatever_the_color(endpoint: Endpoint, color: tuple[int, ...], opaque: int) -> None:
    """Only the alpha channel of a transparent mask matters; an alpha of 1 counts as opaque."""
    mask = Image.new("RGBA", (1024, 1024), (*color, opaque))
    mask.paste((*color, 0), (0, 0, 1024, 512))
    file = io.BytesIO()
    mask.save(file, "PNG")
    source = png("gray", (1024, 1024))
    answer = httpx.post(
        f"{endpoint.url}/images/edits",
        headers={"Authorization": f"Bearer {KEY}"},
        data={"prompt": f"stripes {color} {opaque}", "model": "gpt-image-1", "response_format": "b64_json"},
        files={"image": ("a.png", source, "image/png"), "mask": ("m.png", file.getvalue(), "image/png")},
        timeout=PATIENCE,
    )
    image = opened(base64.b64decode(answer.json()["data"][0]["b64_json"])).convert("RGB")

    assert (128, 128, 128) == image.getpixel((40, 700))
    assert (128, 128, 128) != image.getpixel((40, 300))


def test_several_sources(endpoint: Endpoint) -> None:
    """Several `image[]` fields, as OpenAI's SDK sends them, are fused."""
    images = [("a.png", png("red")), ("b.png", png("blue"))]

    with openai.OpenAI(base_url=endpoint.url, api_key=KEY) as client:
        answer = client.images.edit(model="google/nano-banana", image=images, prompt="side by side")

    assert answer.data is not None
    assert answer.data[0].url


@pytest.mark.parametrize("form", ["path", "home", "data URI", "URL", "file URL", "base64"])
def test_sources_as_clawrouter_takes_them(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The server reads paths, ~, URLs, data URIs and plain base64."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photo.png").write_bytes(png((1, len(form), 3)))
    stored = endpoint.generate("a source").json()["data"][0]["url"]
    image = {
        "path": str(tmp_path / "photo.png"),
        "home": "~/photo.png",
        "data URI": uri(png("olive")),
        "URL": stored,
        "file URL": (tmp_path / "photo.png").as_uri(),
        "base64": base64.b64encode(png("teal")).decode(),
    }[form]

    answer = endpoint.post("/images/image2image", prompt="add a hat", image=image)

    assert 200 == answer.status_code, answer.text
    assert (1024, 1024) == opened(httpx.get(answer.json()["data"][0]["url"], timeout=PATIENCE).content).size


@pytest.mark.parametrize(
    "source", ["relative.png", "/etc/passwd", "/dev/zero", "/nowhere.png", "~nobody-here/x.png", "a\0b"]
)
def test_sources_that_cannot_be_read(endpoint: Endpoint, source: str) -> None:
    """An unreadable source is refused before a purchase, and the error shows nothing of the file."""
    count = len(endpoint.settlements)

    answer = endpoint.post("/images/image2image", prompt="add a hat", image=source)

    assert 400 == answer.status_code
    assert "root:" not in error_of(answer)["message"]
    assert count == len(endpoint.settlements)


def test_a_pipe_is_not_waited_for(endpoint: Endpoint, tmp_path: Path) -> None:
    """A named pipe is refused immediately."""
    os.mkfifo(tmp_path / "pipe")

    assert 400 == endpoint.post("/images/image2image", prompt="add a hat", image=str(tmp_path / "pipe")).status_code


# -- bad input


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "a cat", "n": 0}, "n"),
        ({"prompt": "a cat", "n": True}, "n"),
        ({"prompt": "a cat", "size": "3x3"}, "size"),
        ({"prompt": "a cat", "quality": "high", "model": "flux"}, "quality"),
        ({"prompt": "a cat", "model": "flux-9000"}, "model"),
        ({"prompt": "a cat", "style": "cubist"}, "style"),
        ({"prompt": "a cat", "size": 5}, "size"),
        ({"prompt": "a cat", "model": "nobody/nothing"}, None),
        ({"prompt": "a cat", "steps": 20}, "steps"),
        ({"prompt": "a cat", "stream": True}, "stream"),
        ({"prompt": "a cat", "background": "transparent"}, "background"),
        ({"prompt": "a cat", "response_format": "png"}, "response_format"),
        ({"prompt": "a cat", "output_format": "gif"}, "output_format"),
        ({"prompt": "a cat", "fresh": "perhaps"}, "fresh"),
        ({"prompt": "a cat", "take": -1}, "take"),
        ({"prompt": "a cat", "max_price": "cheap"}, "max_price"),
    ],
)
def test_a_bad_field_is_named(endpoint: Endpoint, body: dict[str, Any], param: str | None) -> None:
    """A bad field gets a 400 with OpenAI's error fields, and nothing is bought."""
    count = len(endpoint.settlements)

    answer = endpoint.post("/images/generations", **body)

    assert (400, param) == (answer.status_code, error_of(answer)["param"])
    assert "false" == answer.headers["x-should-retry"]
    assert count == len(endpoint.settlements)


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"prompt=a", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"--x\r\n", "multipart/form-data", 400),
        (b"garbage", "multipart/form-data; boundary=x", 400),
    ],
)
def test_bodies_that_are_none(endpoint: Endpoint, content: bytes, content_type: str, status: int) -> None:
    """An unreadable body gets a 4xx with OpenAI's error fields."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": content_type}

    answer = httpx.post(f"{endpoint.url}/images/generations", content=content, headers=headers, timeout=PATIENCE)

    assert status == answer.status_code
    assert error_of(answer)


def test_bodies_are_bounded(endpoint: Endpoint) -> None:
    """A body above the limit gets a 413, with or without a Content-Length."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

    def endless() -> Iterator[bytes]:
        for _ in range(120):
            yield b" " * 1_000_000

    client = http.client.HTTPConnection(endpoint.origin.removeprefix("http://"), timeout=PATIENCE)
    client.putrequest("POST", "/v1/images/generations")
    for name, value in (headers | {"Content-Length": "200000000"}).items():
        client.putheader(name, value)
    client.endheaders()
    announced = client.getresponse().status
    client.close()
    try:
        streamed = httpx.post(
            f"{endpoint.url}/images/generations", headers=headers, content=endless(), timeout=PATIENCE
        ).status_code
    except httpx.TransportError:  # the server closed the connection before it had read the whole body
        streamed = 413

    assert (413, 413) == (announced, streamed)


def test_what_a_model_does_not_do_is_said_without_flags(endpoint: Endpoint) -> None:
    """Messages name fields and values of the API, not the flags of cells."""
    bodies: list[dict[str, Any]] = [
        {"size": "3x3"},
        {"model": "flux-9000"},
        {"model": "flux", "quality": "high"},
        {"max_price": "0.001"},
        {"model": "nobody/nothing"},
    ]
    messages = [error_of(endpoint.post("/images/generations", prompt="a cat", **body))["message"] for body in bodies]
    edits: list[dict[str, Any]] = [{"model": "dall-e-2"}, {"mask": uri(png())}]
    messages += [
        error_of(endpoint.post("/images/edits", prompt="x", image=[uri(png())] * 2, **body))["message"]
        for body in edits
    ]

    assert [] == [message for message in messages if re.search(r"--\w|%blockrun", message)]


def test_images_may_be_named_as_openais_json_does(endpoint: Endpoint) -> None:
    """`images` can be a list of objects with `image_url`; `style` accepts OpenAI's values and has no effect."""
    body = {"images": [{"image_url": uri(png("coral"))}], "style": "natural"}

    assert 200 == endpoint.post("/images/edits", prompt="add a hat", **body).status_code


def test_a_size_may_be_a_ratio(endpoint: Endpoint) -> None:
    """A ratio works as in cells; a ratio that the model does not sell gets a 400."""
    assert 200 == endpoint.generate("a wide cat", model="cogview", size="16:9").status_code
    assert (400, "size") == (
        (answer := endpoint.generate("a wide cat", size="9:1")).status_code,
        error_of(answer)["param"],
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/images/generations", 404),
     ("GET", "/v1/images/generations", 405), ("GET", "/v1/nothing", 404), ("GET", "/images/x.png", 404),
     ("GET", "/images/" + "0" * 64 + ".png", 404), ("POST", "/v1/images/variations", 404),
     ("GET", "/v1/models/nobody/nothing", 404), ("GET", "/images/..%2f..%2fledger.sqlite", 404)],
)  # fmt: skip
def test_unknown_paths(endpoint: Endpoint, method: str, path: str, status: int) -> None:
    """Unknown paths and methods get OpenAI's error fields."""
    answer = httpx.request(
        method, f"{endpoint.origin}{path}", headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE
    )

    assert status == answer.status_code
    assert error_of(answer)


# -- money


def test_a_price_above_the_clients_word(endpoint: Endpoint) -> None:
    """A price above `max_price` gets a 402 that clients do not retry, and nothing is paid."""
    count = len(endpoint.settlements)

    answer = endpoint.generate("a whale", max_price="0.01")

    assert (402, "limit_reached", "false") == (
        answer.status_code,
        error_of(answer)["code"],
        answer.headers["x-should-retry"],
    )
    assert count == len(endpoint.settlements)


def test_the_servers_own_limit(gateway: PracticeServer, tmp_path: Path) -> None:
    """`--max-price` also limits the client's `max_price`."""
    with running_endpoint(tmp_path, gateway, max_price=50_000) as limited:
        assert 402 == limited.generate("a limited whale", max_price="9").status_code
        assert 200 == limited.generate("a limited whale", model="gpt-image-1").status_code


def test_fresh_buys_again(endpoint: Endpoint) -> None:
    """Each fresh request buys another take; `take` selects one."""
    takes = [endpoint.generate("a wolf", fresh=True).json()["take"] for _ in range(3)]
    count = len(endpoint.settlements)

    named = endpoint.generate("a wolf", take=2).json()

    assert ([1, 2, 3], 2, True) == (takes, named["take"], named["cached"])
    assert count == len(endpoint.settlements)


def test_an_automatic_retry_of_a_fresh_request_pays_once(endpoint: Endpoint) -> None:
    """The SDK's automatic retry gets the paid take, and nothing is paid twice."""
    count = len(endpoint.settlements)

    with openai.OpenAI(base_url=endpoint.url, api_key=KEY, max_retries=3) as client:
        answer = client.images.generate(prompt="a lynx practice:500-charged", extra_body={"fresh": True})

    assert answer.data
    assert count + 1 == len(endpoint.settlements)


def test_a_retry_says_so(endpoint: Endpoint) -> None:
    """A retry header or a repeated idempotency key returns the same take."""

    def take(**headers: str) -> int:
        more, body = {"Authorization": f"Bearer {KEY}"} | headers, {"prompt": "a bear", "fresh": True}
        answer = httpx.post(f"{endpoint.url}/images/generations", json=body, headers=more, timeout=PATIENCE)
        return int(answer.json()["take"])

    assert [1, 1, 2] == [take(), take(**{"x-stainless-retry-count": "1"}), take()]
    assert 3 == take(**{"Idempotency-Key": "one"})
    assert [3, 4, 3] == [take(**{"Idempotency-Key": key}) for key in ("one", "two", "one")]


def test_a_client_that_hangs_up_loses_nothing(endpoint: Endpoint) -> None:
    """If the client disconnects, the image is still bought, and the next request gets it."""
    count = len(endpoint.settlements)
    body = json.dumps({"prompt": "a stork practice:slow=1"}).encode()
    host, _, port = endpoint.origin.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        head = f"POST /v1/images/generations HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
        client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        deadline = time.monotonic() + PATIENCE
        while httpx.get(f"{endpoint.gateway.url}/practice/ledger", timeout=PATIENCE).json()["paid_requests"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    answer = endpoint.generate("a stork practice:slow=1")

    assert 200 == answer.status_code
    assert count + 1 == len(endpoint.settlements)


# -- access


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"api-key": KEY}, 200),
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": f"Bearer {KEY}", "Origin": "https://evil.example"}, 403),
        ({"Authorization": f"Bearer {KEY}", "Origin": "null"}, 403),
        ({"Authorization": f"Bearer {KEY}", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Authorization": f"Bearer {KEY}", "Host": "evil.example"}, 403),
        ({"Authorization": f"Bearer {KEY}", "Host": "evil.example:80"}, 403),
        ({"Authorization": f"Bearer {KEY}", "Host": "localhost:99"}, 200),
    ],
)
def test_who_may_ask(endpoint: Endpoint, headers: dict[str, str], status: int) -> None:
    """Access needs the key and a host name of this machine; requests from web pages are refused."""
    answer = httpx.get(f"{endpoint.url}/models", headers=headers, timeout=PATIENCE)

    assert status == answer.status_code
    assert status == 200 or error_of(answer)
    assert [] == [name for name in answer.headers if name.startswith("access-control")]


def test_without_a_key(gateway: PracticeServer, tmp_path: Path) -> None:
    """Without a key, local programs have access and web pages do not; a non-local address is refused."""
    with running_endpoint(tmp_path, gateway, key=None) as open_to_all:
        for status, headers in ((200, {}), (403, {"Origin": "http://evil.example"})):
            answer = httpx.get(f"{open_to_all.url}/models", headers=headers, timeout=PATIENCE)
            assert status == answer.status_code
    with pytest.raises(BlockrunError):
        LocalEndpoint(None, None, port=0, host="0.0.0.0", key=None)  # type: ignore[arg-type]  # noqa: S104


def test_others_may_not_name_files(gateway: PracticeServer, tmp_path: Path) -> None:
    """A server on all addresses reads no local files for clients, and its health page hides the wallet."""
    (tmp_path / "photo.png").write_bytes(png())
    with running_endpoint(tmp_path, gateway, host="0.0.0.0") as shared:  # noqa: S104
        local = Endpoint(shared.url.replace("0.0.0.0", "127.0.0.1"), "", gateway)  # noqa: S104

        answer = local.post("/images/image2image", prompt="add a hat", image=str(tmp_path / "photo.png"))
        health = httpx.get(local.url.removesuffix("/v1") + "/health", timeout=PATIENCE).json()

    assert ("ok", None, None) == (health["status"], health["wallet"], health["balance"])
    assert (400, "image") == (answer.status_code, error_of(answer)["param"])


def test_a_shared_server_answers_to_its_names(gateway: PracticeServer, tmp_path: Path) -> None:
    """A server on all addresses accepts Docker's and the configured host names, and refuses others."""
    hosts = {"host.docker.internal:8402": 200, "images": 200, "evil.example": 403}
    with running_endpoint(tmp_path, gateway, host="0.0.0.0", names=["images"]) as shared:  # noqa: S104
        for host, status in hosts.items():
            headers = {"Authorization": f"Bearer {KEY}", "Host": host}
            assert status == httpx.get(f"{shared.url}/models", headers=headers, timeout=PATIENCE).status_code


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [("172.17.0.1", "172.17.0.1:8402", 204), ("fd00::1", "[fd00::1]:8402", 204), ("172.17.0.1", "172.17.0.2", 403)],
)
def test_the_address_that_a_client_came_to_is_a_name(address: str, host: str, status: int) -> None:
    """The address on which a client connects is an accepted host name."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})

    async def note(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/health",
        "query_string": b"",
        "scheme": "http",
        "server": (address, 8402),
        "headers": [(b"host", host.encode())],
    }
    asyncio.run(Guard(app, [], None)(scope, note, note))

    assert status == sent[0]["status"]


def test_a_port_that_is_taken(endpoint: Endpoint) -> None:
    """The error names the process that uses the port."""
    port = int(endpoint.origin.rpartition(":")[2])

    with pytest.raises(BlockrunError) as raised:
        LocalEndpoint(None, None, port=port, key="k")  # type: ignore[arg-type]

    assert str(os.getpid()) in raised.value.message


# -- health, models, log


def test_health(endpoint: Endpoint) -> None:
    """The health page has ClawRouter's fields."""
    report = httpx.get(f"{endpoint.origin}/health", timeout=PATIENCE).json()

    assert ("ok", "practice") == (report["status"], report["realm"])
    assert re.fullmatch(r"0x[0-9a-fA-F]{40}", report["wallet"])
    assert report["paymentChain"]
    assert report["balance"].startswith("$")


def test_models(endpoint: Endpoint) -> None:
    """OpenAI's model list includes our models; a short name finds its model."""
    with openai.OpenAI(base_url=endpoint.url, api_key=KEY) as client:
        assert "google/nano-banana" in [model.id for model in client.models.list()]
        assert "google/nano-banana" == client.models.retrieve("nano-banana").id


def test_the_log_tells_no_secret(gateway: PracticeServer, tmp_path: Path) -> None:
    """The log has one JSON line per request with lengths and costs, and without prompts and keys."""
    log = io.StringIO()
    with running_endpoint(tmp_path, gateway, log=log) as logged:
        logged.generate("a secret garden")
        httpx.get(f"{logged.origin}/health?token=hush", timeout=PATIENCE)

    first, second = (json.loads(line) for line in log.getvalue().splitlines())
    assert ("POST", 200, 15, "0.052500") == (
        first["method"],
        first["status"],
        first["prompt_chars"],
        first["cost_usd"],
    )
    assert "/health" == second["path"]
    assert [] == [word for word in ("secret garden", KEY, "hush") if word in log.getvalue()]


def test_images_stay_when_the_server_starts_again(gateway: PracticeServer, tmp_path: Path) -> None:
    """A restarted server has the images and purchases of the first one."""
    with running_endpoint(tmp_path, gateway) as first:
        name = first.generate("a raven").json()["data"][0]["url"].rpartition("/")[2]
    with running_endpoint(tmp_path, gateway) as second:
        assert 200 == httpx.get(f"{second.origin}/images/{name}", timeout=PATIENCE).status_code
        assert second.generate("a raven").json()["cached"]


def test_stopping_lets_a_running_request_end(gateway: PracticeServer, tmp_path: Path) -> None:
    """A running purchase completes before the server stops."""
    answers: list[httpx.Response] = []
    paid = httpx.get(f"{gateway.url}/practice/ledger", timeout=PATIENCE).json()["paid_requests"]
    with running_endpoint(tmp_path, gateway) as running:
        asking = threading.Thread(target=lambda: answers.append(running.generate("a swan practice:slow=2")))
        asking.start()
        deadline = time.monotonic() + PATIENCE
        while httpx.get(f"{gateway.url}/practice/ledger", timeout=PATIENCE).json()["paid_requests"] == paid:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    asking.join(60)

    assert [200] == [answer.status_code for answer in answers]
