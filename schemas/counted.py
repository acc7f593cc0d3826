"""Numbers in sentences: one page, two pages."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return `number` with its word: `1 page`, `1,200 pages`; `many` where that is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
