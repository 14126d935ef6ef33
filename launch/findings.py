"""What the machine refused or lacks, as data: said once, with what would grant it; the run goes on."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing the machine does not give. `what` was refused, `why` it matters, `hint` says what would grant it."""

    id: str
    what: str
    why: str
    hint: str
    status: Literal["ok", "warn", "bad"] = "warn"

    def document(self) -> dict[str, str]:
        """For JSON and for the pipe from a child to the supervisor."""
        return asdict(self)
