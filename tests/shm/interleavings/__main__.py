"""`python -m tests.shm.interleavings [TEXT]`: the scenarios' sizes, and how each mutant dies under each model.

With TEXT: the whole shortest trace of each mutant whose name contains it.
"""

import sys

from tests.shm.interleavings.mutants import MISTAKES, MODELS, NOT_NEEDED, SCENARIOS, Death, Mutant, hunt, weakenings
from tests.shm.interleavings.search import explore
from tests.shm.interleavings.source import Program


def show_scenarios() -> None:
    """The real source: states explored under each model."""
    for module, scenarios in SCENARIOS.items():
        for scenario in scenarios:
            verdicts = {name: explore(scenario, MODELS[name], Program()) for name in ("TSO", "weak, races")}
            sizes = ", ".join(f"{name}: {verdict.states} states" for name, verdict in verdicts.items())
            wrong = [verdict.wrong for verdict in verdicts.values() if verdict.wrong]
            print(f"{module}  {scenario.name}: {sizes}: {'; '.join(wrong) or 'nothing wrong'}")


def show_mutant(mutant: Mutant, *, traces: bool) -> None:
    """One mutant: how it died under TSO and under the weak model."""
    print(mutant.what + (f" (not needed: {NOT_NEEDED[mutant.what]})" if mutant.what in NOT_NEEDED else ""))
    tso, weak = hunt(mutant, "TSO"), hunt(mutant, "weak") or hunt(mutant, "weak, races")
    for name, death in (("TSO", tso), ("weak", weak)):
        print(f"    {name:5}{_words(death)}")
        if death is not None and traces:
            print("".join(f"\n        {step}" for step in death.trace))


def _words(death: Death | None) -> str:
    return "harmless" if death is None else f"{death.wrong}  [{len(death.trace)} steps, {death.scenario}]"


def main() -> None:
    """See the file's own words."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else None
    if wanted is None:
        show_scenarios()
    for mutant in [*weakenings(), *MISTAKES]:
        if wanted is None or wanted in mutant.what:
            show_mutant(mutant, traces=wanted is not None)


main()
