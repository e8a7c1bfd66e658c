"""Reading tables of text (CSV), with the columns that are needed: the one reader of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .errors import UserError, explained, require_file

if TYPE_CHECKING:
    import pandas as pd


def read_csv(
    source: str | Path | TextIO,
    *,
    text: Collection[str] = (),
    numbers: Collection[str] = (),
    optional: Collection[str] = (),
    missing: Collection[str] = ("",),
    mend: str = "name the right file, or delete it and run the stage that makes it",
) -> pd.DataFrame:
    """A table of a CSV file in UTF-8.

    Only what stands in `missing` is no value: a class may well be called NA, None or null.

    Args:
        text: columns it must have, read as they stand.
        numbers: columns it must have, each value a number or missing.
        optional: columns that are read as they stand where there are some.
        missing: what stands for no value.

    Raises:
        UserError: the file is missing, is no such table, lacks a column, or has a word for a
            number.
    """
    import pandas as pd

    name = source if isinstance(source, str | Path) else "the table"
    if isinstance(source, str | Path):
        require_file(source, "table", mend)
    types = dict.fromkeys((*text, *optional), str)
    try:
        table = pd.read_csv(
            source, dtype=types, encoding="utf-8", keep_default_na=False, na_values=[*missing]
        )
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is no table in UTF-8: {error}", "save it as UTF-8") from error
    except OSError as error:
        raise explained(error) from error  # type: ignore[misc]
    except (ValueError, OverflowError, RecursionError) as error:  # pandas' own are ValueErrors
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} is no table (CSV): {reason}", mend) from error
    if absent := [column for column in (*text, *numbers) if column not in table]:
        raise UserError(f"{name} has no column {absent[0]!r}", mend)
    for column in numbers:
        if not (pd.api.types.is_numeric_dtype(table[column]) or table[column].isna().all()):
            found = pd.to_numeric(table[column], errors="coerce")
            word = table[column][found.isna() & table[column].notna()].iloc[0]
            raise UserError(f"{name}: {column} is {word!r}, which is no number", mend)
    return table
