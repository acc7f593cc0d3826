"""The one console on which rich draws: nothing that others have written steers it, or is taken for markup."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from worker.visible import visible


class Terminal(Console):
    """A `Console` that shows text as it is: no markup, no emoji by name, no highlighting, no control characters."""

    def __init__(self, **options: Any) -> None:
        """Take what a `Console` takes."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As a `Console` does, of what `renderable` shows; whatever is drawn comes through here, cells too."""
        if isinstance(renderable, str):
            renderable = visible(renderable, keep="\n")
        elif isinstance(renderable, Text) and not renderable.plain.isprintable():
            shown = visible(renderable.plain, keep="\n")
            if shown != renderable.plain:
                renderable = _like(renderable, shown)
        return super().render(renderable, options)


def _like(text: Text, shown: str) -> Text:
    return Text(shown, text.style, justify=text.justify, overflow=text.overflow, no_wrap=text.no_wrap, end=text.end)
