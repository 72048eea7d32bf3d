"""A client that stops reading: the server takes a stated number of bytes and no more, and loses none of them.

The bound is the sum of the stream's window, which holds chunks not taken yet; one chunk for each credit; one chunk in
the reader's hands; and the results sent so far, which fill the client's own window and the server's write buffer.
Another 1 MB allows for the buffers of grpcio and of the two kernels.
"""

from __future__ import annotations

import numpy as np

from tests.e2e.clients import Foreign, sequences
from tests.e2e.raw_messages import chunk, final_metrics, ramp, results, samples_of
from tests.e2e.servers import ServerProcess
from transport.grpc.limits import Limits

FRAMES = 16_384
CHUNK_BYTES = 2 * FRAMES
CHUNKS = 2_000  # 64 MB
CREDITS = 32
CLIENT_WINDOW_BYTES = 65_535

BOUND_BYTES = (
    Limits().stream_window_bytes
    + (CREDITS + 1) * CHUNK_BYTES
    + CLIENT_WINDOW_BYTES
    + Limits().high_water_bytes
    + 1_000_000
)


def test_memory_stays_flat_while_a_client_stops_reading(server: ServerProcess, foreign: Foreign) -> None:
    with foreign.session() as talk:
        assert talk.ready.input_capacity == CREDITS
        talk.ask(chunk(ramp(0, FRAMES), 0))
        before_bytes = server.resident_bytes
        talk.send(*(chunk(ramp(i, FRAMES), i) for i in range(1, CHUNKS)))

        taken = talk.wait_quiet(0.5)
        assert taken * CHUNK_BYTES < BOUND_BYTES < CHUNKS * CHUNK_BYTES / 10
        grown_bytes = server.resident_bytes - before_bytes
        assert grown_bytes < 4 * BOUND_BYTES
        print(f"taken: {taken * CHUNK_BYTES} bytes; the server has grown by {grown_bytes}")  # pytest -rP shows it

        with foreign.session() as neighbour:  # on the same connection
            for i in range(50):
                assert neighbour.ask(chunk(ramp(i), i)).sequence == i
            final_metrics(neighbour.finish())

        assert talk.wait_quiet(0.5) * CHUNK_BYTES < BOUND_BYTES  # still no more than the bound

        responses = talk.finish()
        assert server.resident_bytes - before_bytes < 4 * BOUND_BYTES

    answers = results(responses)
    assert sequences(answers) == [*range(CHUNKS), CHUNKS - 1]
    for i, answer in enumerate(answers[:-1]):
        np.testing.assert_array_equal(samples_of(answer.result.audio_outputs["in"])[:, 0], ramp(i, FRAMES))
    metrics = final_metrics(responses)
    assert metrics.delivered == CHUNKS
    assert metrics.peak_memory_bytes <= 2 * (CREDITS + 1) * CHUNK_BYTES


def test_a_message_larger_than_the_window_gets_through(foreign: Foreign) -> None:
    large = np.arange(2_000_000, dtype=np.int32)
    assert large.nbytes > 10 * Limits().stream_window_bytes
    with foreign.session() as talk:
        responses = talk.finish(chunk(large, 0), chunk(large[::-1], 1))
    first, second, _ = results(responses)
    np.testing.assert_array_equal(samples_of(first.result.audio_outputs["in"])[:, 0], large)
    np.testing.assert_array_equal(samples_of(second.result.audio_outputs["in"])[:, 0], large[::-1])


def test_a_message_over_the_limit_ends_its_own_call_only(foreign: Foreign) -> None:
    with foreign.session() as stays:
        with foreign.session() as talk:
            talk.send(chunk(np.zeros(9_000_000, np.int32), 0))
            talk.rest()
            assert talk.end.code == "RESOURCE_EXHAUSTED"
        assert stays.ask(chunk(ramp())).sequence == 0
