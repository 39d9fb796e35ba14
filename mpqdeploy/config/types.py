"""What the sections of a configuration are made of: their base, and values with bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mpqdeploy.core import Precision, UserError


def _checked(parse: Callable[[str], object]) -> Callable[[str], str]:
    """A validator that keeps the text and reports what `parse` says about it."""

    def check(text: str) -> str:
        try:
            parse(text)
        except UserError as error:
            # pydantic attaches the key to a ValueError and to nothing else.
            raise ValueError(str(error)) from error
        return text

    return check


PrecisionText = Annotated[str, AfterValidator(_checked(Precision.parse))]
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
