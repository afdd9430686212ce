"""How much synthetic state to make: what `--synthetic accounts=…,contracts=…` says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from ethsync.errors import ConfigError

SMALLEST_MEAN_CODE = 18
"""Mean code length in bytes from which codes are long enough (half of it) to be all different."""


@dataclass(frozen=True, slots=True)
class SyntheticSpec:
    """How much of what. `contracts` have storage, at least one slot each; `codes` are distinct; lengths in bytes."""

    accounts: int
    contracts: int = 0
    slots: int = 0
    codes: int = 0
    seed: int = 1
    code_bytes: int = 1500
    headers: int = 1000
    """Number of the head: the chain before it goes back to the genesis."""
    changed: int = 0
    """Accounts that are not as in the state that the rest describes: what it is some blocks later."""

    def __post_init__(self) -> None:
        if (
            min(asdict(self).values()) < 0
            or min(self.accounts, self.headers) < 1
            or self.code_bytes < SMALLEST_MEAN_CODE
        ):
            raise ConfigError(
                f"no state can be made of {self}",
                hint=f"at least one account and one header, code_bytes at least {SMALLEST_MEAN_CODE}, nothing negative",
            )
        if max(self.contracts, self.codes) > self.accounts:
            raise ConfigError(f"{self.accounts} accounts cannot have {self.contracts} contracts and {self.codes} codes")
        if self.changed > self.accounts:
            raise ConfigError(f"of {self.accounts} accounts {self.changed} cannot have changed")
        if self.slots < self.contracts or (self.slots and not self.contracts):
            raise ConfigError(f"{self.slots} slots for {self.contracts} contracts: each needs one at least")

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in asdict(self).items())


DEMO_SPEC = SyntheticSpec(accounts=200_000, contracts=20_000, slots=300_000, codes=5_000)
"""What `--network demo` serves."""


def parse_spec(text: str) -> SyntheticSpec:
    """Read "accounts=1000000,contracts=50000,slots=1400000,codes=50000,seed=1". Raises ConfigError."""
    known = [field.name for field in fields(SyntheticSpec)]
    found: dict[str, int] = {}
    for item in text.split(","):
        name, _, value = item.strip().partition("=")
        digits = value.replace("_", "")
        if name not in known or name in found or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            raise ConfigError(f"'{item}' is not a part of a synthetic state", hint="write accounts=N,contracts=N,…")
        found[name] = int(digits)
    if "accounts" not in found:
        raise ConfigError(f"'{text}' does not say how many accounts", hint="write accounts=N,contracts=N,…")
    return SyntheticSpec(**found)
