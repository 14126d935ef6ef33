"""A run as a systemd service, rendered from its plan: the same cores, limits and deadlines, in systemd's words."""

import math
from collections.abc import Iterable
from pathlib import Path

from launch.host.cpu_lists import cpu_list
from launch.placement.affinity import CoreMap
from launch.plan import Plan
from pipeline.config.tree import Config
from stages.duty import WIND_DOWN_S

REFERENCE_CORES = 6
"""The smallest machine on which every stage has a core of its own: what the committed units are rendered for."""
REFERENCE_PROGRAM = Path("/opt/tickpipe/bin/pipeline")

REPORT_S = 5.0
"""For writing the report, after the stop sequence."""
RESTARTS, RESTARTS_WITHIN_S = 3, 600
DEFAULT_RUN = "default"


def unit_name(config: Config) -> str:
    """tickpipe, or tickpipe-NAME for a run of another name than the default's."""
    return "tickpipe" if config.run.name == DEFAULT_RUN else f"tickpipe-{config.run.name}"


def slice_name(config: Config) -> str:
    """Without a dash: that would put it below another run's slice, and under its limits."""
    return unit_name(config).replace("-", "_")


def render(config: Config, cores: CoreMap, plan: Plan, program: Path, file: Path | None) -> dict[str, str]:
    """File name: text. `program` is the pipeline command, `file` the configuration it is started with."""
    name = unit_name(config)
    units = {
        f"{name}.service": _service(name, config, plan, program, file),
        f"{slice_name(config)}.slice": _slice(plan),
    }
    own = {core.cpu for core in cores.pollers.values() if core.alone} - cores.topology.isolated
    if own:
        units[f"{name}-keep-off.conf"] = _keep_off(name, set(cores.topology.usable) - own)
    return units


def _service(name: str, config: Config, plan: Plan, program: Path, file: Path | None) -> str:
    command = [str(program), "up", *(["-c", str(file)] if file is not None else [])]
    # After the supervisor's death the router still cancels its orders: the next run starts when it is surely gone.
    restart_s = math.ceil(config.router.supervisor_loss_wait_ms / 1000 + WIND_DOWN_S) + 1
    return f"""\
# A tickpipe run as a service. Rendered by `pipeline export systemd`; edits are lost.
# It wants a user: useradd --system tickpipe. Its verbs are run as that user, with the Environment= below.

[Unit]
Description=tickpipe run {config.run.name}, {config.launch.placement}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec={RESTARTS_WITHIN_S}
StartLimitBurst={RESTARTS}

[Service]
Type=exec
User=tickpipe
ExecStart={" ".join(quoted(word) for word in command)}
StateDirectory=tickpipe
CacheDirectory=tickpipe
RuntimeDirectory={name}
RuntimeDirectoryMode=0700
UMask=0077
Environment=XDG_STATE_HOME=%S XDG_CACHE_HOME=%C XDG_RUNTIME_DIR=%t/{name}

# SIGTERM to the supervisor alone is the orderly stop: strategy first, orders cancelled, rings drained, report written.
# A second one would force it, so there is no ExecStop beside it. What is left after the supervisor is never killed:
# the router cancels its working orders at the venue by itself and leaves.
KillMode=process
KillSignal=SIGTERM
TimeoutStopSec={math.ceil(plan.stop_limit_s + REPORT_S)}

# An exit code is a decision (2 configuration, 3 a stage failed and trading stopped, 4 a privilege refused, 5 the name
# is held): a person looks first. A supervisor that was killed has decided nothing.
Restart=on-abnormal
RestartSec={restart_s}

# The plan's cores: housekeeping {plan.housekeeping_cpu}, {_places(plan)}.
Slice={slice_name(config)}.slice
CPUAffinity={cpu_list(_cores(plan))}
{_limits(plan)}OOMScoreAdjust=-500

NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def _slice(plan: Plan) -> str:
    return f"""\
# Beside system.slice, so that other services can be kept off these cores. Rendered by `pipeline export systemd`.

[Unit]
Description=Cores of tickpipe

[Slice]
AllowedCPUs={cpu_list(_cores(plan))}
"""


def _keep_off(name: str, others: Iterable[int]) -> str:
    return f"""\
# Optional: keeps everything else off the cores of the stages, which are not isolated (isolcpus is stronger).
# Copy to /etc/systemd/system/system.slice.d/{name}.conf and user.slice.d/{name}.conf.

[Slice]
AllowedCPUs={cpu_list(others)}
"""


def _cores(plan: Plan) -> set[int]:
    return {plan.housekeeping_cpu, *(process.cpu for process in plan.processes)}


def _places(plan: Plan) -> str:
    return ", ".join(f"{process.name} {process.cpu}" for process in plan.processes)


def _limits(plan: Plan) -> str:
    """What the knobs of the plan need, so that no capability is needed."""

    def values(knob: str) -> list[int]:
        return [value for process in plan.processes if (value := process.schedule.value(knob)) is not None]

    lines = []
    if values("fifo"):
        lines.append(f"LimitRTPRIO={max(values('fifo'))}")
    if values("nice"):
        lines.append(f"LimitNICE={min(values('nice'))}")
    if values("memory_lock"):
        lines.append("LimitMEMLOCK=infinity")
    return "".join(f"{line}\n" for line in lines)


def quoted(word: str) -> str:
    """A word of a command line: specifiers and variables are not expanded, blanks do not end it."""
    plain = word.replace("%", "%%").replace("$", "$$")
    if not any(character.isspace() or character in "\"'\\;" for character in plain):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
