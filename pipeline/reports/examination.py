"""What `pipeline doctor` found, for people: a section for each severity, the worst first, then the cores' noise."""

from rich import box
from rich.console import Console
from rich.table import Table

from launch.doctor import Examination
from launch.findings import Finding
from launch.host.noise import Noise
from pipeline.reports.text import nanoseconds, new_table
from pipeline.terminal import data_console

SECTIONS = (
    ("bad", "Bad: costs milliseconds, or a run fails", "bold red"),
    ("warn", "Warnings: cost microseconds, or cannot be told here", "bold yellow"),
    ("ok", "In order", "bold green"),
)


def print_examination(examination: Examination, console: Console | None = None) -> None:
    """Draw it on standard output."""
    console = console or data_console()
    for status, title, style in SECTIONS:
        found = [finding for finding in examination.findings if finding.status == status]
        if found:
            console.print(_section(found, f"{title} ({len(found)})", style, hints=status != "ok"))
    if examination.noise:
        console.print(_noise(examination.noise))
        console.print(noise_words(examination.noise), style="dim", markup=False)


def _section(found: list[Finding], title: str, style: str, *, hints: bool) -> Table:
    table = Table(title=title, title_justify="left", title_style=style, header_style="dim", box=box.SIMPLE_HEAD)
    table.add_column("subject", no_wrap=True)
    for column in ("what", "why it costs latency", *(("hint",) if hints else ())):
        table.add_column(column, overflow="fold", ratio=1)
    for finding in found:
        table.add_row(finding.id, *map(_plain, (finding.what, finding.why, *((finding.hint,) if hints else ()))))
    return table


def _plain(text: str) -> str:
    """Brackets in it are not markup."""
    return text.replace("[", r"\[")


def _noise(noise: list[Noise]) -> Table:
    table = new_table("Noise", "core", "gaps", "p99.9", "max", "of its time")
    for one in noise:
        table.add_row(
            str(one.cpu),
            f"{one.gaps:,}",
            nanoseconds(one.p999_ns),
            nanoseconds(one.max_ns),
            f"{one.lost_ppm / 1e4:.3f} %",
        )
    return table


def noise_words(noise: list[Noise]) -> str:
    """How the figures were made."""
    least = min(one.threshold_ns for one in noise)
    return (
        f"A loop that only reads the clock, pinned to each core in turn for {noise[0].duration_s:.2f} s under the "
        f"normal scheduler. A gap is at least {least:.0f} ns above the loop's own time; p99.9 and max are of the gaps, "
        "so with fewer than 1,000 of them p99.9 is the max. --noise 10s listens longer."
    )
