from __future__ import annotations

import threading

import pytest

from worker.byte_pipe import BytePipe, PipeBroken


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def test_bytes_come_out_in_the_order_they_went_in():
    pipe = BytePipe(limit_bytes=10)
    writer = in_thread(lambda: ([pipe.write(bytes([number] * 7)) for number in range(20)], pipe.end()))
    pieces = []
    while piece := pipe.read(9):
        pieces.append(piece)
    writer.join()
    assert b"".join(pieces) == b"".join(bytes([number] * 7) for number in range(20))
    assert {len(piece) for piece in pieces[:-1]} == {9}


def test_a_full_pipe_makes_its_writer_wait():
    pipe = BytePipe(limit_bytes=4)
    passed = threading.Event()

    def write() -> None:
        pipe.write(b"four")
        pipe.write(b"more")
        passed.set()

    writer = in_thread(write)
    assert not passed.wait(0.05)
    assert pipe.read(4) == b"four"
    assert passed.wait(5)
    writer.join()


def test_a_writer_finds_out_that_the_reader_is_gone():
    pipe = BytePipe(limit_bytes=1)
    pipe.write(b"x")
    threading.Timer(0.02, pipe.break_off).start()
    with pytest.raises(PipeBroken):
        pipe.write(b"y")


def test_a_reader_does_not_take_a_broken_stream_for_a_whole_one():
    pipe = BytePipe(limit_bytes=10)
    pipe.write(b"half")
    pipe.break_off()
    with pytest.raises(PipeBroken):
        pipe.read(10)
