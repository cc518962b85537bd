"""Addresses of gateways: names, URLs, and addresses that are not safe for a payment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.gateways import PRESETS, Gateway, Payer, gateway_at, gateway_named, practice_at, preset
from blockrun_magic.gateway.urls import is_loopback
from blockrun_magic.payments.x402.networks import ARC, BASE, BASE_SEPOLIA, PRACTICE


@pytest.mark.parametrize(
    ("name", "base_url", "network", "realm"),
    [
        ("base", "https://blockrun.ai/api", BASE, "real"),
        ("testnet", "https://testnet.blockrun.ai/api", BASE_SEPOLIA, "testnet"),
        ("arc", "https://arc.blockrun.ai/api", ARC, "real"),
    ],
)
def test_a_preset_knows_its_address_and_money(name: str, base_url: str, network: object, realm: str) -> None:
    """A preset name gives the gateway's address and its only network."""
    gateway = gateway_named(name)

    assert (name, base_url, (network,), realm) == (gateway.name, gateway.base_url, gateway.networks, gateway.realm)
    assert gateway is gateway_named(name.upper())
    assert f"{name} ({base_url})" == gateway.label
    assert not gateway.on_loopback


@pytest.mark.parametrize("name", ["", "practice", "bas", "blockrun.ai", "localhost:8402", "mailto:x", "a\x1b[31m\nb"])
def test_an_unknown_name_is_refused_with_the_names_there_are(name: str) -> None:
    """The refusal lists the available names in printable text."""
    with pytest.raises(UsageError) as caught:
        gateway_named(name)

    assert caught.value.message.isprintable()
    assert all(name in caught.value.hint for name in ("practice", *PRESETS))


def test_a_misspelt_name_is_met_with_the_right_one() -> None:
    """The hint for a misspelled name begins with the closest one."""
    with pytest.raises(UsageError) as caught:
        gateway_named("tesnet")

    assert "'tesnet'" in caught.value.message
    assert caught.value.hint.startswith("Did you mean testnet? ")


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com/", "https://example.com"),
        ("  https://Example.COM/x402/api//\n", "https://example.com/x402/api"),
        ("HTTPS://example.com:8443/api", "https://example.com:8443/api"),
        ("http://localhost:8403", "http://localhost:8403"),
        ("http://LOCALHOST:8403", "http://localhost:8403"),
        ("http://127.0.0.1:8403", "http://127.0.0.1:8403"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8403/api", "http://[::1]:8403/api"),
    ],
)
def test_a_url_is_a_gateway_that_takes_real_money(url: str, base_url: str) -> None:
    """An https URL, or http on this machine, is a gateway on Base, in a normalized spelling."""
    gateway = gateway_named(url)

    assert Gateway(base_url, base_url, (BASE,)) == gateway
    assert base_url == gateway.label
    assert base_url.startswith(gateway.origin)


@pytest.mark.parametrize(
    ("name", "base_url", "paid_by", "able"),
    [
        ("clawrouter", "http://127.0.0.1:8402", Payer.PROXY, {"balance", "catalog"}),
        ("account", "https://api.blockrun.ai", Payer.CREDIT, {"poll", "balance", "catalog"}),
    ],
)
def test_where_another_pays_nothing_is_signed_and_nothing_is_promised(
    name: str, base_url: str, paid_by: Payer, able: set[str]
) -> None:
    """A prepaid preset takes real money, has no network to sign for, and lists its limitations."""
    gateway = gateway_named(name)

    assert (base_url, (), paid_by, "real", True) == (
        gateway.base_url,
        gateway.networks,
        gateway.paid_by,
        gateway.realm,
        gateway.prepaid,
    )
    assert able == {str(each.name).lower() for each in gateway.capabilities}
    assert 4 - len(able) == len(gateway.limitations)


def test_where_we_sign_everything_can_be_asked() -> None:
    """An x402 gateway has no limitations."""
    assert () == PRESETS["base"].limitations == gateway_at("https://example.com").limitations


@pytest.mark.parametrize("port", ["9402", "08402", "65535"])
def test_the_proxys_port_is_the_environments(port: str) -> None:
    """`BLOCKRUN_PROXY_PORT` sets ClawRouter's port, and a URL with this port is ClawRouter."""
    environ = {"BLOCKRUN_PROXY_PORT": port}
    expected = f"http://127.0.0.1:{int(port)}"

    assert expected == gateway_named("clawrouter", environ).base_url
    assert "clawrouter" == gateway_at(f"http://localhost:{int(port)}/v1", environ).name


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "8402 ", "\u0668"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    """The refusal names the variable; other gateways ignore it."""
    with pytest.raises(UsageError, match="BLOCKRUN_PROXY_PORT"):
        preset("clawrouter", {"BLOCKRUN_PROXY_PORT": port})
    assert PRESETS["base"] is preset("base", {"BLOCKRUN_PROXY_PORT": port})


def test_an_account_may_be_elsewhere_but_never_unencrypted() -> None:
    """`BLOCKRUN_API_KEY_URL` moves the account; an address without encryption is refused."""
    moved = preset("account", {"BLOCKRUN_API_KEY_URL": "https://credit.example.com/"})

    assert ("account", "https://credit.example.com") == (moved.name, moved.base_url)
    assert PRESETS["account"] is preset("account", {"BLOCKRUN_API_URL": "https://credit.example.com"})
    with pytest.raises(UsageError):
        preset("account", {"BLOCKRUN_API_KEY_URL": "http://credit.example.com"})


@pytest.mark.parametrize(
    ("environ", "base_url"),
    [
        ({"BLOCKRUN_API_BASE_URL": "https://credit.example.com/v1"}, "https://credit.example.com"),
        ({"BLOCKRUN_API_KEY_URL": "https://credit.example.com/v1/"}, "https://credit.example.com"),
        (
            {"BLOCKRUN_API_KEY_URL": "https://a.example.com", "BLOCKRUN_API_BASE_URL": "https://b.example.com"},
            "https://a.example.com",
        ),
        ({"BLOCKRUN_API_KEY_URL": " ", "BLOCKRUN_API_BASE_URL": "https://b.example.com"}, "https://b.example.com"),
    ],
)
def test_the_accounts_address_has_the_names_of_both_sdks(environ: dict[str, str], base_url: str) -> None:
    """The Python SDK's variable comes first, then the TypeScript SDK's; a trailing /v1 is removed."""
    assert base_url == preset("account", environ).base_url


@pytest.mark.parametrize(
    ("poll_url", "expected"),
    [
        ("/api/v1/images/generations/j1", "https://api.blockrun.ai/v1/images/generations/j1"),
        ("api/v1/images/generations/j1?a=1", "https://api.blockrun.ai/v1/images/generations/j1?a=1"),
        ("https://api.blockrun.ai/api/v1/images/generations/j1", "https://api.blockrun.ai/v1/images/generations/j1"),
        ("https://API.blockrun.ai:443/api/v1/x", "https://api.blockrun.ai/v1/x"),
        ("//api.blockrun.ai/api/v1/x", "https://api.blockrun.ai/v1/x"),
        ("/v1/images/generations/j1", "https://api.blockrun.ai/v1/images/generations/j1"),
        ("/apis/v1/x", "https://api.blockrun.ai/apis/v1/x"),
        ("https://blockrun.ai/api/v1/x", "https://blockrun.ai/api/v1/x"),
    ],
)
def test_an_accounts_job_is_asked_for_where_the_account_serves_it(poll_url: str, expected: str) -> None:
    """The /api of the x402 gateways is removed on the account's own origin; other URLs do not change."""
    assert expected == PRESETS["account"].job_address(poll_url)


def test_an_accounts_job_stays_below_an_address_with_a_path() -> None:
    """An account behind a proxy stays below the proxy's path."""
    account = preset("account", {"BLOCKRUN_API_KEY_URL": "https://proxy.example.com/blockrun/v1"})

    assert "https://proxy.example.com/blockrun/v1/x" == account.job_address("/api/v1/x")


def test_elsewhere_a_job_keeps_its_api() -> None:
    """An x402 gateway's job URL stays below /api."""
    assert "https://blockrun.ai/api/v1/x" == PRESETS["base"].job_address("/api/v1/x")


@pytest.mark.parametrize(
    ("url", "generate", "edit"),
    [
        ("https://example.com", "/v1/images/generations", "/v1/images/image2image"),
        ("https://example.com/v1", "/v1/images/generations", "/v1/images/image2image"),
        ("https://example.com/v1/images/generations", "/v1/images/generations", "/v1/images/image2image"),
        ("https://example.com#/generate", "/generate", "/generate"),
        ("https://example.com#/v2/draw/sdxl", "/v2/draw/sdxl", "/v2/draw/sdxl"),
    ],
)
def test_an_endpoint_has_the_usual_paths_or_one_of_its_own(url: str, generate: str, edit: str) -> None:
    """The URL uses OpenAI-like paths or the path after `#`; its name gives the same gateway again."""
    gateway = gateway_at(url)

    assert f"https://example.com{generate}" == gateway.address("/v1/images/generations")
    assert f"https://example.com{edit}" == gateway.address("/v1/images/image2image")
    assert "https://example.com/v1/models" == gateway.address("/v1/models")
    assert gateway == gateway_named(gateway.name)


@pytest.mark.parametrize(
    "path", ["generate", "//evil.example.com", "/a b", "/a?key=1", "/a#b", "/../x", "/a/./b", "/é"]
)
def test_an_odd_path_is_refused(path: str) -> None:
    """A path with a query, dots, spaces or another host is refused."""
    with pytest.raises(UsageError):
        gateway_at(f"https://example.com#{path}")


def test_the_servers_of_a_chain_are_the_environments() -> None:
    """`BLOCKRUN_ARC_RPC` sets Arc's RPC servers; a list of only one is refused."""
    servers = "https://one.example.com, https://two.example.com"
    arc = preset("arc", {"BLOCKRUN_ARC_RPC": servers})

    assert ("https://one.example.com", "https://two.example.com") == arc.networks[0].rpc_urls
    assert ARC.id == arc.networks[0].id
    assert preset("base", {"BLOCKRUN_ARC_RPC": servers}) is PRESETS["base"]
    with pytest.raises(UsageError, match="BLOCKRUN_ARC_RPC"):
        preset("arc", {"BLOCKRUN_ARC_RPC": "https://one.example.com"})


@pytest.mark.parametrize(
    "url", ["http://localhost:8402", "http://LOCALHOST:8402/", "http://127.0.0.1:8402/v1", "http://[::1]:8402"]
)
def test_the_proxy_is_known_by_every_name_of_this_machine(url: str) -> None:
    """ClawRouter is recognized under every name of this machine; asked for a price, it would buy."""
    assert PRESETS["clawrouter"] is gateway_named(url, {})


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://localhost:8402/images/a.png", "http://127.0.0.1:8402/images/a.png"),
        ("http://127.0.0.1:8402/images/a.png?x=1", "http://127.0.0.1:8402/images/a.png?x=1"),
        ("http://[::1]:8402/images/a.png", "http://127.0.0.1:8402/images/a.png"),
        ("http://localhost:8403/images/a.png", None),
        ("https://localhost:8402/images/a.png", None),
        ("http://localhost/images/a.png", None),
        ("http://user@localhost:8402/images/a.png", None),
        ("http://localhost.example.com:8402/images/a.png", None),
        ("http://10.0.0.1:8402/images/a.png", None),
        ("http://[bad", None),
        ("file:///images/a.png", None),
    ],
)
def test_pictures_of_a_neighbour_are_the_gateways_own(url: str, own: str | None) -> None:
    """Another name of this machine with the same scheme and port is the gateway itself."""
    assert own == PRESETS["clawrouter"].loopback_alias(url)
    assert PRESETS["base"].loopback_alias(url) is None


def test_the_url_of_a_preset_is_the_preset() -> None:
    """The URL of a preset gives the preset, with its own network."""
    for known in PRESETS.values():
        assert known is gateway_at(known.base_url + "/")
        assert known is gateway_at(known.base_url.replace("blockrun", "BlockRun"))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://blockrun.ai/api",
        "http://192.168.0.10:8402",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://2130706433",
        "http://0x7f000001",
        "http://127.1",
        "http://0.0.0.0:8402",
        "ws://example.com",
        "ftp://localhost",
        "file:///etc/passwd",
        "javascript://localhost/%0a",
    ],
)
def test_a_payment_does_not_travel_unencrypted(url: str) -> None:
    """Plain http is accepted only for this machine, under its usual names: a payment header is money."""
    with pytest.raises(UsageError):
        gateway_named(url)
    with pytest.raises(UsageError):
        practice_at(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user@example.com",
        "https://user:password@example.com/api",
        "http://localhost@example.com",
        "https://example.com/api?key=1",
        "https://example.com/api#part",
        "https://",
        "https:///api",
        "https://[::1",
        "https://example.com:port",
        "https://example.com:99999",
        "://",
    ],
)
def test_an_odd_url_is_refused(url: str) -> None:
    """URLs with credentials, a query or a fragment, or without a host, are refused; the password is not shown."""
    with pytest.raises(UsageError) as caught:
        gateway_named(url)

    assert "password" not in str(caught.value)


def test_practice_is_paid_in_play_money_wherever_it_is() -> None:
    """The practice gateway has its own network at any URL."""
    gateway = practice_at("http://127.0.0.1:5000/")

    assert ("practice", "practice", (PRACTICE,)) == (gateway.name, gateway.realm, gateway.networks)
    assert gateway.on_loopback
    assert (PRACTICE,) == practice_at("https://blockrun.ai/api").networks


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.255.254", "::1"])
def test_this_machine_is_known(host: str) -> None:
    """These names are loopback."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "local", "localhost.", "example.com", "10.0.0.1", "0.0.0.0", "::", "fe80::1"])  # noqa: S104
def test_other_machines_are_known(host: str) -> None:
    """All other hosts are not loopback, including private networks."""
    assert not is_loopback(host)


@given(st.text(st.sampled_from("htps:/@.?#[]%\\ \x00\t127localhexm")) | st.text())
def test_any_text_is_a_gateway_or_a_refusal(text: str) -> None:
    """Any text gives a gateway with a safe address, or an error of ours."""
    try:
        gateway = gateway_at(text)
    except UsageError:
        return

    assert gateway.base_url.startswith("https://") or gateway.on_loopback
    assert "@" not in gateway.origin
