"""One walk through a server for a person: progress while it lasts, and what was found even if it is ended early."""

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.cli.browse_forms import Form, Json, Lines, Tags
from gateway.cli.browse_tree import NAMESPACES, Tree
from gateway.drivers.opcua.browse import Bounds, Choice, Node, Walk
from gateway.drivers.opcua.exploring import UNIT, Explorer, View
from gateway.errors import DeviceError, GatewayError

_AT_ONCE: Final = 100
_FORMS: Final[dict[str, Callable[[], Form]]] = {"yaml": Tags, "json": Json, "list": Lines}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the server is shown, and how: `form` is tree, list, yaml or json."""

    start: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    depth: int
    form: str


async def show(wanted: Wanted, opening: AbstractAsyncContextManager[Explorer]) -> None:
    """Print what is wanted of a server. Raises GatewayError, also if nothing was found."""
    tree = Tree(wanted.start, wanted.depth) if wanted.form == "tree" else None
    form = tree or _FORMS[wanted.form]()
    search = _Search(wanted, form, tree)
    namespaces: Sequence[str] = ()
    try:
        async with opening as explorer:
            if tree is not None:
                namespaces = _texts(await explorer.look([(NAMESPACES, "")]))
            with _progress(explorer, is_streaming=tree is None) as tell:
                await search.run(explorer, tell)
    except (asyncio.CancelledError, DeviceError):
        if tree is not None:
            _print_tree(tree, namespaces)
        if search.walked:
            click.echo(search.so_far, err=True)
        raise
    if tree is not None:
        _print_tree(tree, namespaces)
    if not search.shown:
        raise search.nothing()


class _Search:
    """A walk, what is printed of it, and how far it came."""

    def __init__(self, wanted: Wanted, form: Form, tree: Tree | None) -> None:
        self._wanted = wanted
        self._form = form
        self._tree = tree
        self._choice = Choice(wanted.include, wanted.exclude)
        self._some_path = ""
        self.walked = 0
        self.shown = 0

    async def run(self, explorer: Explorer, tell: Callable[[int, int], None]) -> None:
        """Walk to the end; `tell` gets how many nodes were walked and met. Raises DeviceError."""
        bounds = Bounds(depth=self._wanted.depth)
        start = self._wanted.start
        walk = Walk(explorer, start, bounds=bounds, choice=self._choice, tell=lambda met: tell(self.walked, met))
        batch: list[Node] = []
        async for node in walk.nodes():
            self.walked += 1
            if self._tree is not None:
                self._tree.meet(node)
            if node.is_variable:
                self._some_path = self._some_path or node.path
            if self._choice.takes(node.path) and (node.is_variable or self._wanted.form != "yaml"):
                batch.append(node)
            if len(batch) == _AT_ONCE:
                await self._print(explorer, batch)
                batch = []
        await self._print(explorer, batch)

    async def _print(self, explorer: Explorer, nodes: Sequence[Node]) -> None:
        variables = [node for node in nodes if node.is_variable]
        asked = [(node.node, node.properties.get(UNIT, "")) for node in variables]
        views = await explorer.look(asked) if asked else []
        view_of: dict[str, View] = dict(zip((node.node for node in variables), views, strict=True))
        click.echo(self._form.add([(node, view_of.get(node.node)) for node in nodes]), nl=False)
        self.shown += len(nodes)

    @property
    def so_far(self) -> str:
        """What somebody has who ended the walk, or lost it."""
        if not self.shown:
            return f"Nothing was found yet, among {self.walked} nodes."
        return f"This is what was found so far: {self.shown} of {self.walked} nodes; there may be more."

    def nothing(self) -> GatewayError:
        """Say that nothing was found, and why that may be."""
        if not self.walked:
            return GatewayError(f"there is nothing below {self._wanted.start}", do="Begin at another node (--from).")
        what = "variable" if self._wanted.form == "yaml" else "node"
        example = f" is {self._some_path!r} here" if self._some_path else " has dots between the names"
        return GatewayError(
            f"none of {self.walked} nodes is a {what} that --include, --exclude and --depth take",
            do=f'A glob is compared with the whole path: one{example}, and "*" stands for anything.',
        )


def _print_tree(tree: Tree, namespaces: Sequence[str]) -> None:
    width = shutil.get_terminal_size((120, 24)).columns
    for line in tree.lines(namespaces, width):
        click.echo(line)
    if tree.closed:
        count = "1 branch was" if tree.closed == 1 else f"{tree.closed} branches were"
        click.echo(f"{count} not opened: give --depth, or --from NODE.", err=True)


def _texts(views: Sequence[View]) -> Sequence[str]:
    value = views[0].value
    return [str(each) for each in value] if isinstance(value, list | tuple) else ()


@contextlib.contextmanager
def _progress(explorer: Explorer, *, is_streaming: bool) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how far the walk is among the nodes met; how many there are nobody knows before the end.

    Where the nodes themselves are printed there, they are the progress.
    """
    if not sys.stderr.isatty() or (is_streaming and sys.stdout.isatty()):
        yield lambda _walked, _met: None
        return
    columns = (SpinnerColumn(), BarColumn(bar_width=20), TextColumn("{task.description}"), TimeElapsedColumn())
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task("connected", total=None)

        def tell(walked: int, met: int) -> None:
            rate = explorer.requests / max(time.monotonic() - began, 0.1)
            text = f"{walked:,} of {met:,} nodes seen, {rate:.0f} requests/s"
            bar.update(task, completed=walked, total=met, description=text)

        yield tell
