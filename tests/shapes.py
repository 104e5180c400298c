"""The type checker that the tests put behind jaxtyping's shapes: beartype, with an int accepted for a float."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
