"""Settings of methods that are files, each method's options in a section.

The methods are the files of a folder (`jaxmtl.discovery`): a new file is a new name and
a new section, here and on the command line, and nothing else is touched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

import tyro

from jaxmtl import discovery


def methods(
    package: str,
    choice: str = "name",
    without: Collection[str] = (),
    *,
    some: bool = False,
) -> Callable[[type], type]:
    """Decorates a frozen dataclass of settings: adds a section for each method.

    Args:
      package: dotted name of the folder of methods.
      choice: the field of the dataclass that names the one in use.
      without: methods that get no section.
      some: whether a file may do without options, and then has no section.

    Returns:
      A decorator. The class it makes has the class attributes `CHOICE`, `FOLDER` and
      `SECTIONS`, the names of the sections.
    """

    def decorate(plain: type) -> type:
        names = discovery.names(package)
        kinds = discovery.all_options(package, some=some)
        sections = _sections(
            {name: kind for name, kind in kinds.items() if name not in without}, names
        )
        (given,) = [f for f in dataclasses.fields(plain) if f.name == choice]
        listed = tyro.conf.arg(metavar="{" + ",".join(names) + "}")
        choices = (choice, Annotated[str, listed], given.default)
        made = _as_written_out(plain, [choices, *sections])
        made.CHOICE, made.FOLDER = choice, package
        made.SECTIONS = tuple(name for name, *_ in sections)
        return made

    return decorate


def everything(package: str) -> Callable[[type], type]:
    """Decorates a frozen dataclass of settings for methods that are all in use.

    Adds a section for each method of a folder that has options; there is no choice.

    Args:
      package: dotted name of the folder of methods.
    """

    def decorate(plain: type) -> type:
        kinds = discovery.all_options(package)
        some = {name: kind for name, kind in kinds.items() if dataclasses.fields(kind)}
        return _as_written_out(plain, _sections(some, discovery.names(package)))

    return decorate


def by_name(settings: Any) -> dict[str, Any]:
    """Name of a method -> its options, of those that have any.

    Args:
      settings: of a class that `everything` decorates.
    """
    return {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}


def chosen(settings: Any) -> Any:
    """The options of the method in use; None where it has none.

    Args:
      settings: of a class that `methods` decorates.
    """
    return getattr(settings, getattr(settings, settings.CHOICE), None)


def check(settings: Any, at: str) -> None:
    """Raises ValueError where no method has the name given; suggests the nearest.

    Args:
      settings: of a class that `methods` decorates.
      at: how the command line calls them, `model`.
    """
    name, known = getattr(settings, settings.CHOICE), discovery.files(settings.FOLDER)
    if name not in known:
        raise ValueError(
            f"--{at}.{settings.CHOICE} is {name!r}; {discovery.nearest(name, known)}"
        )


def unused(settings: Any) -> set[str]:
    """The sections of methods that are not in use; none of other settings."""
    if not hasattr(settings, "SECTIONS"):
        return set()
    return set(settings.SECTIONS) - {getattr(settings, settings.CHOICE)}


def _sections(
    kinds: Mapping[str, type], lines: Mapping[str, str]
) -> list[tuple[str, Any, Any]]:
    """A field of settings for each method: its name, type with help, and default."""
    return [
        (name, Annotated[kind, tyro.conf.arg(help=lines[name])], kind())
        for name, kind in kinds.items()
    ]


def _as_written_out(plain: type, fields: list[tuple[str, Any, Any]]) -> type:
    """A class with further fields, as if it had been written out where it is: it is
    pickled by its name."""
    made = dataclasses.make_dataclass(
        plain.__name__, fields, bases=(plain,), frozen=True
    )
    made.__module__, made.__doc__ = plain.__module__, plain.__doc__
    return made
