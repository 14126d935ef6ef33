"""Observers announce themselves by locks on a segment's file: any number, gone with their process, unseen by others."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from shm import segment as segments
from shm.file_lock import EXCLUSIVE, try_lock
from shm.presence import Presence, Watch
from shm.segment import Segment, SegmentMissingError, owner_is_alive, record_layout, unlink
from tests.shm.processes import Children, cores


@pytest.fixture
def name() -> Iterator[str]:
    name = f"tickpipe.test-{os.getpid()}.presence"
    segment = Segment.create(name, record_layout(np.dtype("<i8")))
    yield name
    segment.close()
    unlink(name)


def test_a_segment_is_observed_while_anybody_is_present(name: str) -> None:
    watch = Watch(name)
    assert not watch.is_observed()
    first, second = Presence(name), Presence(name)
    assert watch.is_observed()
    first.close()
    assert watch.is_observed()
    second.close()
    assert not watch.is_observed()
    watch.close()


def test_an_observer_stays_when_it_closes_other_descriptors_and_the_owner_is_asked_for(name: str) -> None:
    watch, presence = Watch(name), Presence(name)
    os.close(os.open(segments.SHM_DIRECTORY / name, os.O_RDONLY))
    assert owner_is_alive(name)
    with Segment.observe(name):
        assert watch.is_observed()
    assert watch.is_observed()
    presence.close()
    descriptor = os.open(segments.SHM_DIRECTORY / name, os.O_RDONLY)
    assert not try_lock(descriptor, EXCLUSIVE)  # its owner's lock is another one, untouched
    os.close(descriptor)
    watch.close()


def test_an_observer_that_is_killed_is_gone(name: str) -> None:
    watch, (told, tell) = Watch(name), os.pipe()

    def observe() -> None:
        Presence(name)
        os.write(tell, b"here")
        signal.pause()

    with Children() as children:
        pid = children.fork("observer", cores()[0], observe)
        assert os.read(told, 4) == b"here"
        assert watch.is_observed()
        children.kill(pid)
        assert not watch.is_observed()
    for descriptor in (told, tell):
        os.close(descriptor)
    watch.close()


def test_what_is_not_there_cannot_be_observed() -> None:
    for ends in (Presence, Watch):
        with pytest.raises(SegmentMissingError, match=r"tickpipe\.nowhere: not found"):
            ends("tickpipe.nowhere")


def test_a_system_that_cannot_say_counts_as_observed(name: str) -> None:
    watch = Watch(name)
    watch.close()
    assert watch.is_observed()
