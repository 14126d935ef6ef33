"""The settings as a plain POSIX shell script, for those who want to read what would be done, or have no Python there.

`frame.sh` holds the mechanism, once more than `change.py` does; a test runs both on equal trees and compares. What is
set is not repeated: the list comes from the catalogue.
"""

import textwrap
from collections.abc import Iterable
from importlib.resources import files

from launch.tuning.boot import HOW, WHY_NOT
from launch.tuning.setting import Setting

WIDTH = 112


def render(settings: Iterable[Setting]) -> str:
    """The whole script."""
    frame = (files("launch.tuning") / "frame.sh").read_text(encoding="utf-8")
    listed = "\n".join(line for setting in settings for line in _lines(setting))
    boot = "\n".join(textwrap.wrap(f"{HOW}. {WHY_NOT}.", WIDTH, break_on_hyphens=False)).replace("`", "'")
    return frame.replace("@SETTINGS@", listed).replace("@BOOT@", boot.replace("$", "\\$"))


def _lines(setting: Setting) -> list[str]:
    words = f"{setting.why}. Costs: {setting.trade_off}" if setting.trade_off else setting.why
    return [
        "",
        *(f"    # {line}" for line in textwrap.wrap(words, WIDTH, break_on_hyphens=False)),
        f"    \"$1\" '{setting.id}' {_how(setting)} '{setting.wanted}' '{setting.path}'",
    ]


def _how(setting: Setting) -> str:
    if setting.reserves_huge_pages:
        return "pages"
    if setting.some_refuse:
        return "lenient"
    return "exact" if setting.compare == "equal" else setting.compare
