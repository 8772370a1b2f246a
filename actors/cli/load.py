"""Finding the application: ``module:attribute`` to its ActorSystem."""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from actors.cli.failure import Usage

if TYPE_CHECKING:
    from types import ModuleType

    from actors.system import ActorSystem

EXAMPLE: Final = "bank:system"


def load_system(target: str) -> ActorSystem:
    """Import the module that ``target`` names and return its system.

    The current directory comes first on the path, as with ``python -m``. Raises
    :class:`Usage` saying what is wrong: no such module, an error inside it, no such
    attribute, or something that is no ActorSystem.
    """
    from actors.system import ActorSystem  # after --help had its chance

    name, colon, path = target.partition(":")
    if not name or (colon and not path):
        raise Usage(f"{target!r} names no system", f"give module:attribute, such as {EXAMPLE}")
    if os.sep in name or Path(name).is_file():
        dotted = name.removeprefix("./").removesuffix(".py").strip(os.sep).replace(os.sep, ".")
        raise Usage(f"{name} is a path, not a module", f"did you mean {dotted}:{path or 'system'}? run it from the project's folder")
    here = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _import(name)
    if not path:
        raise Usage(f"{target!r} does not say which system", _hint(module, name))
    found: object = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Usage(f"{name} has no attribute {path!r}", _hint(module, name, path)) from None
    if not isinstance(found, ActorSystem):
        what = "a class" if isinstance(found, type) else f"of type {type(found).__qualname__}"
        raise Usage(f"{target} is {what}, not an ActorSystem", _hint(module, name))
    return found


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise Usage(f"{name} cannot be imported, it needs {error.name}", f"{_origin(error)}install it into this environment") from error
        near = difflib.get_close_matches(error.name, _modules(name), n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise Usage(
            f"there is no module {error.name!r}",
            f"{guess}looked in {os.getcwd()} and {len(sys.path) - 1} other places of sys.path; run this from the project's folder",  # noqa: PTH109 - text is what is shown
        ) from None
    except SystemExit as error:
        hint = "guard what it runs by: if __name__ == '__main__':"
        raise Usage(f"{name} ends the program when it is imported (exit code {error.code})", hint) from None
    except Exception as error:
        lines = "".join(traceback.format_exception_only(error)).rstrip().replace("\n", "\n  ")
        raise Usage(f"{name} cannot be imported", f"{_origin(error)}{lines}") from error


def _origin(error: BaseException) -> str:
    """Return where in the application the error came up: its last frame outside the import machinery."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename != __file__ and os.sep + "importlib" + os.sep not in frame.filename
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}\n  " if frames else ""


def _modules(name: str) -> list[str]:
    """Return the modules that could have been meant: siblings of ``name``."""
    parent, dot, _ = name.rpartition(".")
    if not dot:
        return [module.name for module in pkgutil.iter_modules([os.getcwd()])]  # noqa: PTH109 - pkgutil takes text
    try:
        package = importlib.import_module(parent)
    except ImportError:
        return [module.name for module in pkgutil.iter_modules([os.getcwd()])]  # noqa: PTH109 - pkgutil takes text
    return [f"{parent}.{module.name}" for module in pkgutil.iter_modules(getattr(package, "__path__", []))]


def _hint(module: ModuleType, name: str, wanted: str = "") -> str:
    from actors.system import ActorSystem

    systems = [attribute for attribute, value in vars(module).items() if isinstance(value, ActorSystem)]
    if systems:
        near = difflib.get_close_matches(wanted, systems, n=1) or systems
        return f"did you mean {name}:{near[0]}?"
    return f"{name} makes no ActorSystem; one is made by: system = ActorSystem({name.rpartition('.')[2]!r})"
