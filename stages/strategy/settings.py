"""Which strategy trades, and with which parameters."""

from pydantic import BaseModel, ConfigDict, Field


class StrategySettings(BaseModel):
    """The strategy; its parameters are declared by its own PARAMETERS and checked when it is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        "market_maker",
        min_length=1,
        max_length=4_096,
        description="A shipped strategy (market_maker, spread) or the path of a Python file",
    )
    parameters: dict[str, int] = Field(
        default_factory=dict,
        description="Values of the strategy's own parameters; each has its unit, default and range there",
    )
