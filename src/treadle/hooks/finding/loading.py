"""Importing the modules of plugins: each folder is a package of its own, and is imported anew when one of its
files has changed."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from contextlib import AbstractContextManager, redirect_stdout
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from treadle.errors import PluginError, TreadleError
from treadle.foreign import foreign
from treadle.hooks.finding.checking import shown
from treadle.undo import undone

ROOT = "treadle_plugins"
BYTES_MAX = 1024 * 1024
"""A file of a plugin that is larger is not looked at."""
_STAMP = "__treadle_stamp__"


class _Loader(SourceFileLoader):
    """Compiles from the source: bytecode files go by whole seconds, and belong in nobody's folder."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def is_ours(path: Path) -> bool:
    """Whether a file speaks of Treadle at all: the folder may be somebody else's. PluginError if it can't be
    read."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise PluginError(f"{shown(path)}: it has more than BYTES_MAX={BYTES_MAX} bytes")
        return b"treadle" in path.read_bytes()
    except OSError as error:
        raise PluginError(f"{shown(path)}: {error.strerror or error}") from None


def load_file(path: Path) -> ModuleType:
    """The module of a file. PluginError that says the line at which it failed."""
    name = f"{_package(path.parent)}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__[_STAMP] = _stamp(path)
    sys.modules[name] = module
    importlib.invalidate_caches()  # a helper beside it may be new
    with undone(sys.modules.pop, name, None), of_plugin(file=str(path)), aside():
        spec.loader.exec_module(module)
    return module


def of_plugin(begin: str = "", *, ours: str | None = None, file: str = "") -> AbstractContextManager[None]:
    """Around what plugins do when they are loaded, made and asked: whatever is raised becomes a PluginError
    that begins so. Our own errors (which may begin differently) keep their words; of others the line is
    named, that of `file` if it had a part in it."""
    def told(error: BaseException) -> PluginError:
        if isinstance(error, TreadleError):
            return PluginError(f"{begin if ours is None else ours}{error}")
        return PluginError(f"{begin}{failure(error, file)}")

    return foreign(told)


def aside() -> AbstractContextManager[object]:
    """What a plugin prints when it is loaded goes to stderr: stdout is for results."""
    return redirect_stdout(sys.stderr)


def failure(error: BaseException, file: str = "") -> str:
    """`plugins/logger.py:3: ModuleNotFoundError: …`: the line of the file, else the last one, and why."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{shown(error.filename)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not frame.filename.startswith("<") and frame.filename != __file__]
    here = [frame for frame in frames if frame.filename == file] or frames
    at = f"{shown(here[-1].filename)}:{here[-1].lineno}: " if here else f"{shown(file)}: " if file else ""
    return f"{at}{type(error).__name__}: {error}"


def _package(folder: Path) -> str:
    """Have a folder's package in `sys.modules`, without what is stale of it; its name."""
    digest = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=6).hexdigest()
    name = f"{ROOT}.d{digest}"
    members = [key for key in list(sys.modules) if key == name or key.startswith(name + ".")]
    if any(_changed(sys.modules[key]) for key in members):
        for key in members:
            del sys.modules[key]
    for package, place in ((ROOT, []), (name, [str(folder.resolve())])):
        if package not in sys.modules:
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = place
    return name


def _changed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:
        return False
    now = _stamp(Path(file))
    return module.__dict__.setdefault(_STAMP, now) != now


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
