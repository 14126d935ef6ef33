"""Verification of a list of files, each by its format."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.verify.detect import format_of
from pipeline.verify.report import FileReport, Verification
from stages.domain.captures.pcap import is_pcap
from stages.domain.captures.pieces import DamagedFileError, pieces


def verify(paths: Sequence[Path], file_format: str | None) -> Verification:
    """Verify `paths`, all of `file_format` unless that is None. Raises UsageError for a file of no use.

    Binance captures are looked at together: those whose ids join are one stream.
    """
    formats = [format_of(path) if file_format is None or _is_pcap(path) else file_format for path in paths]
    books: dict[str, dict[str, Any]] = {}
    captures = [str(path) for path, name in zip(paths, formats, strict=True) if name == "binance"]
    found: dict[str, list[FileReport]] = {}
    if captures:
        from pipeline.verify import binance

        for report in binance.verify(captures, books):
            found.setdefault(report.file, []).append(report)
    reports: list[FileReport] = []
    for path, name in zip(paths, formats, strict=True):
        if name == "binance":
            reports.append(found[str(path)].pop(0))
        else:
            reports.extend(_verifier(name)(path, books))
    return Verification(reports, books)


def _is_pcap(path: Path) -> bool:
    """Whether a file is a capture of the network, which holds whatever it holds."""
    try:
        return path.is_file() and is_pcap(next(pieces(path), b""))
    except (OSError, DamagedFileError):
        return False


def _verifier(name: str) -> Callable[[Path, dict[str, dict[str, Any]]], list[FileReport]]:
    """Imported when it is needed: each brings kernels of its own."""
    if name == "lobster":
        from pipeline.verify import lobster

        return lobster.verify
    if name == "itch":
        from pipeline.verify import itch

        return itch.verify
    if name == "pcap":
        from pipeline.verify import pcap

        return pcap.verify
    from pipeline.verify import raw

    return raw.verify
