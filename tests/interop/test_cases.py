"""gRPC's interoperability test cases between our client and server and grpcio's clients and server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import pytest
import trio
import trio.testing

from tests.interop import grpcio_cases
from tests.interop.cases import CASES, compression_probes
from tests.interop.echo import handlers
from tests.interop.peers import module_serving, run
from transport.client.channel import open_channel
from transport.server import Server, serve

LEFT_OUT = {
    "cacheable_unary": "the specification has it for GET requests, which gRPC over HTTP/2 does not have",
    "concurrent_large_unary": "gone from gRPC's list; tests/transport/test_grpcio.py has many_at_once",
    "compute_engine_creds": "needs an account at Google; bearer tokens have tests of their own",
    "compute_engine_channel_credentials": "the same",
    "default_service_account": "the same",
    "google_default_credentials": "the same",
    "jwt_token_creds": "the same",
    "oauth2_auth_token": "the same",
    "per_rpc_creds": "the same",
    "unimplemented_method of HalfDuplexCall": "no client has ever called it; gRPC deprecates it",
    "rpc_soak": "`python -m benchmarks soak` does more, with worse clients",
    "channel_soak": "the same",
    "orca_per_rpc": "load reports, which this service does not send",
    "orca_oob": "the same",
    "mcs_cs": "about channels of Google's C core that share connections",
    "long_lived_channel": "about name resolution between two calls, hours apart",
}
"""Cases of gRPC's list that are not run here, each with the reason."""

FOREIGN_LEFT_OUT = {
    ("aio", "client_compressed_streaming"): "grpc.aio's stream_unary is the same code as sync's",
}


async def on_our_server(name: str) -> None:
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(partial(serve, handlers()))
            async with open_channel("127.0.0.1", server.port) as channel:
                await (CASES | {"probes": compression_probes})[name](channel)
                while server.open_calls:  # every call is over on the server too, cancelled ones among them
                    await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", [*CASES, "probes"])
async def test_our_client_and_our_server(name: str) -> None:
    await on_our_server(name)


# ---- grpcio's server


@pytest.fixture(scope="module")
def grpcio_port() -> Iterator[int]:
    with module_serving("tests.interop.grpcio_server") as port:
        yield port


@pytest.mark.parametrize("name", CASES)
async def test_our_client_and_grpcios_server(grpcio_port: int, name: str) -> None:
    """The probes are left out: grpcio's server cannot show its handlers whether a request was compressed."""
    with trio.fail_after(120):
        async with open_channel("127.0.0.1", grpcio_port) as channel:
            await CASES[name](channel)


# ---- grpcio's clients


@pytest.fixture(scope="module")
def grpcio_outcomes() -> Iterator[dict[str, dict[str, str]]]:
    """Run grpcio's clients against our server in another process; yield the outcome of each case by API."""
    with module_serving("tests.interop.echo") as port:
        yield {
            api: dict(
                line.split(" ", 1)
                for line in run(sys.executable, "-m", "tests.interop.grpcio_cases", str(port), api).splitlines()
            )
            for api in ("sync", "aio")
        }


@pytest.mark.parametrize(
    ("api", "name"),
    [(api, name) for api in ("sync", "aio") for name in CASES if (api, name) not in FOREIGN_LEFT_OUT],
)
def test_grpcios_client_and_our_server(grpcio_outcomes: dict[str, dict[str, str]], api: str, name: str) -> None:
    assert grpcio_outcomes[api][name] == "ok"


def test_every_case_is_run_or_left_out_with_a_reason() -> None:
    for api, kind in (("sync", grpcio_cases.Sync), ("aio", grpcio_cases.Aio)):
        assert set(grpcio_cases.names(kind)) == {name for name in CASES if (api, name) not in FOREIGN_LEFT_OUT}
    assert not CASES.keys() & LEFT_OUT.keys()
    assert all(LEFT_OUT.values())
