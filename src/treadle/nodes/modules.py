"""The code that diagrams name: functions by import path, and modules in the diagram's folder.

A diagram's folder becomes a package of its own, `treadle_diagrams.<digest of the folder>`, so `sys.path`
stays as it is, two diagrams may both have a `tasks.py`, and a class in it has a name that is the same in
every process. Its modules reach each other by relative imports (`from .helpers import tidy`). When one of its
files has changed, the whole package is imported afresh at the next look-up.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import msgspec

from treadle.errors import did_you_mean
from treadle.foreign import attempt

ROOT = "treadle_diagrams"


class Importing:
    """Whether this child process is just importing its parent's program."""

    program = False


class Reference(msgspec.Struct, frozen=True):
    """Where a function is, so that another process finds it: its module and its name there, the module's
    file, and for one of a diagram's folder that folder."""

    module: str
    name: str
    file: str = ""
    folder: str = ""
    program: bool = False  # it is the program itself, whose `__main__` part must not run again

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Reference:
        """ValueError if the function can't be found again by its name."""
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        found = sys.modules.get(module) if module is not None else None
        if module is None or plain_function(attribute(found, name)) is not function:
            raise ValueError(f"{name or function!r} isn't at the top level of its module: a process can't "
                             "find it. Move it there, or choose isolation: thread")
        file = getattr(found, "__file__", None) or ""
        if module == "__main__":
            if not file:
                raise ValueError(f"{name} was defined in an interactive session: a process can't import it. "
                                 "Put it in a file, or choose isolation: thread")
            folder = Path(file).resolve().parent
            return cls(module_name(folder, Path(file).stem), name, folder=str(folder), program=True)
        folder_package = sys.modules.get(".".join(module.split(".")[:2])) if module.startswith(ROOT) else None
        return cls(module, name, file, folder_package.__path__[0] if folder_package is not None else "")

    def resolve(self) -> Callable[..., Any]:
        """Import the function. Runs in the process that needs it."""
        found: Callable[..., Any] | None = plain_function(attribute(self._import(), self.name))
        if found is None:
            raise ValueError(f"module {self.module} has no {self.name!r}")
        return found

    def _import(self) -> ModuleType:
        if self.folder:
            package(Path(self.folder))
        Importing.program = self.program
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if not self.file or error.name is None or not self.module.startswith(error.name):
                raise
        finally:
            Importing.program = False
        # Imported by its file in the parent, too, as test runners do.
        spec = importlib.util.spec_from_file_location(self.module, self.file)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"no module {self.module!r} in {self.file}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.module] = module
        spec.loader.exec_module(module)
        return module


def plain_function(found: Any) -> Any:
    """The function itself where `@node` of `treadle.diagram.builder` has made a node of it."""
    function = getattr(found, "function", None)
    return function if function is not None and getattr(found, "__wrapped__", None) is function else found


def attribute(module: ModuleType | None, name: str) -> Any:
    """What a qualified name means in a module, or None."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


_found: ContextVar[dict[tuple[str, str], Callable[..., Any]] | None] = ContextVar("found", default=None)


class looking_once:
    """Look for each function once within the block, so that ten thousand nodes that call one cost one look.

    `found` may be kept for a later block.
    """

    __slots__ = ("_functions", "_token")

    def __init__(self, found: dict[tuple[str, str], Callable[..., Any]] | None = None) -> None:
        self._functions = {} if found is None else found

    def __enter__(self) -> None:
        self._token = _found.set(self._functions)

    def __exit__(self, *error: object) -> None:
        _found.reset(self._token)


def load_function(path: str, base: str) -> Callable[..., Any]:
    """The function that `module:function` names: in the diagram's folder first, else in the installed
    modules.

    ValueError that says what is wrong: the syntax, a module that isn't there or fails, a function that it
    lacks.
    """
    found = _found.get()
    known = None if found is None else found.get((path, base))
    if known is not None:
        return known
    module_path, colon, name = path.partition(":")
    parts = [*module_path.split("."), *name.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{path!r} is not the path of a function: write it as 'module:function'")
    function = _member(load_module(module_path, base), name, path)
    if found is not None:
        found[path, base] = function
    return function


def load_file_function(file: str, name: str, base: str) -> Callable[..., Any]:
    """A function of a Python file, named relative to the diagram's folder. FileNotFoundError, ValueError."""
    path = (Path(base) / file).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no file {file!r} in {Path(base).resolve()}")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ValueError(f"{file!r} can't be imported: its name must be an identifier that ends in .py")
    return _member(_import(module_name(path.parent, path.stem), path.parent, file), name, f"{file}:{name}")


def load_module(name: str, base: str) -> ModuleType:
    """A module of the diagram's folder, or an installed one. ValueError with the reason if it can't be
    imported."""
    folder = Path(base)
    file = _file_of(folder / Path(*name.split(".")))
    if file is not None:
        loaded = sys.modules.get(name)
        if loaded is not None and loaded.__file__ is not None and file.samefile(loaded.__file__):
            return loaded  # the program itself has imported it: there should be one of it
        return _import(module_name(folder, name), folder, name)
    try:
        return imported(name, repr(name))
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            near = did_you_mean(name, [path.stem for path in folder.glob("*.py")])
            raise ValueError(f"no module {name!r} in {folder.resolve()} or installed"
                             + (f": {near}" if near else "")) from None
        raise ValueError(f"importing {name!r} failed: {error}") from error


def imported(name: str, said: str) -> ModuleType:
    """The module of that name, which people know as `said`. ModuleNotFoundError; ValueError that says what
    its own code raised."""
    module, error = attempt(importlib.import_module, name)
    if isinstance(error, ModuleNotFoundError):
        raise error
    if error is not None:  # that of the module's own code
        raise ValueError(f"importing {said} failed: {type(error).__name__}: {error}") from error
    return module  # type: ignore[no-any-return]


def _file_of(path: Path) -> Path | None:
    for file in (path.with_name(path.name + ".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def module_name(folder: Path, name: str) -> str:
    """The name under which a module of a diagram's folder stands in `sys.modules`."""
    digest = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=6).hexdigest()
    return f"{ROOT}.d{digest}.{name}"


def folders() -> dict[str, str]:
    """The packages of diagrams' folders that are loaded, by name: another process needs them to find
    classes."""
    return {name: module.__path__[0] for name, module in list(sys.modules.items())
            if name.startswith(ROOT + ".") and name.count(".") == 1}


def import_for(folder: str, name: str) -> None:
    """Import a module of a diagram's folder by its full name (in a child process)."""
    package(Path(folder))
    imported(name, repr(name))


def _member(module: ModuleType, name: str, path: str) -> Callable[..., Any]:
    found = plain_function(attribute(module, name))
    if found is None:
        near = did_you_mean(name, [known for known in vars(module) if not known.startswith("_")])
        raise ValueError(f"{path!r}: {module.__file__ or module.__name__} has no "
                         f"{name!r}" + (f": {near}" if near else ""))
    if not callable(found):
        raise ValueError(f"{path!r} is a {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function


def _import(name: str, folder: Path, said: str) -> ModuleType:
    package(folder)
    try:
        return imported(name, f"{said!r} of {folder}")
    except ModuleNotFoundError as error:
        hint = ""
        if error.name is not None and (folder / f"{error.name.split('.')[0]}.py").is_file():
            hint = f". Modules of a diagram's folder reach each other relatively: from .{error.name} import …"
        raise ValueError(f"importing {said!r} of {folder} failed: {error}{hint}") from error


def package(folder: Path) -> None:
    """Have the package of a folder in `sys.modules`, without what is stale of it."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if ROOT not in sys.modules:
        root = ModuleType(ROOT, "The folders of diagrams whose code was loaded.")
        root.__path__ = []
        sys.modules[ROOT] = root
    name = module_name(folder, "").rstrip(".")
    members = [key for key in sys.modules if key == name or key.startswith(name + ".")]
    if any(_changed(sys.modules[key]) for key in members):
        for key in members:
            del sys.modules[key]
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder.resolve())]
        sys.modules[name] = package


def _changed(module: ModuleType) -> bool:
    stamp = module.__dict__.get("__treadle_stamp__")
    return stamp is not None and stamp != _stamp(str(module.__file__))


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles from the source each time: bytecode files go by whole seconds, and belong in nobody's
    folder."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__treadle_stamp__"] = _stamp(self.path)
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds what is beneath `treadle_diagrams`, and nothing else."""

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(ROOT + ".") or not path:
            return None
        for folder in path:
            finder = importlib.machinery.FileFinder(folder, (_Loader, [".py"]))
            spec = finder.find_spec(fullname)
            if spec is not None:
                return spec
        return None
