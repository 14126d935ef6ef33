"""What compiled code depends on is part of its key in the cache."""

from pathlib import Path

import pytest

from shm import processor
from shm.kernel import sources_hash


def test_code_of_a_machine_whose_kernel_trusted_the_tsc_is_not_run_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = sources_hash()
    assert sources_hash() == here
    monkeypatch.setattr(processor, "CLOCK_SOURCES", ("hpet", "acpi_pm"))
    assert sources_hash() != here


def test_code_of_another_processor_is_not_run_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here, other = sources_hash(), tmp_path / "cpuinfo"
    other.write_text("processor : 0\nmodel name : Other\nflags : fpu tsc\n", encoding="ascii")
    monkeypatch.setattr(processor, "CPUINFO", other)
    assert sources_hash() != here


def test_a_machine_that_says_nothing_has_an_identity_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "absent")
    monkeypatch.setattr(processor, "CLOCK_SOURCES", None)
    assert processor.identity() == ""
