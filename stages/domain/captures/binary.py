"""What recordings of binary messages share: they come in files, or in captures of the network (`udp_feeds`).

A recording that is damaged ends where the damage begins, and says so: `pipeline verify` looks at what is behind it.
"""

from collections.abc import Callable, Iterator, Sequence

from stages.domain.captures.binance import CaptureError
from stages.domain.captures.pcap import is_pcap
from stages.domain.captures.pieces import DamagedFileError, pieces
from stages.domain.captures.udp_feeds import UdpFeeds

HINT = "what comes before it is played; `pipeline verify` looks at the rest"


class DamagedCaptureError(CaptureError):
    """What follows is no message."""


def contents(file: str, lost: list[str] | None, *, is_raw: bool) -> Iterator[bytes]:
    """A file's bytes in pieces, or, of a capture of the network, those of its raw messages or of its ITCH frames.

    lost   what a capture of the network lacks goes there at its end, in words

    Raises CaptureError when it cannot be read, DamagedCaptureError after its good part.
    """
    try:
        source = pieces(file)
        first = next(source, b"")
        if is_pcap(first):
            feeds = UdpFeeds(file)
            try:
                yield from (content.content for content in feeds.read() if content.is_raw == is_raw)
            finally:
                if lost is not None:
                    lost += feeds.words()
        elif first:
            yield first
            yield from source
    except DamagedFileError as error:
        raise DamagedCaptureError(f"{file}: {error.what}, at offset {error.offset}", HINT) from None
    except OSError as error:
        raise CaptureError(f"{file}: {error.strerror or error}", "check the path") from None


def up_to_damage(
    messages: Callable[[str, list[str] | None], Iterator[bytes]],
    files: Sequence[str],
    damage: list[str] | None = None,
    lost: list[str] | None = None,
) -> Iterator[bytes]:
    """The `messages` of all files, one after the other, up to where one is damaged.

    That is noted in `damage`; what captures of the network lack in `lost`.
    """
    for file in files:
        try:
            yield from messages(file, lost)
        except DamagedCaptureError as error:
            if damage is not None:
                damage.append(error.message)
            return
