"""Starts a Python process of ours: `python /the/path/to/eagleray/_bootstrap.py MODULE ARGUMENT...` runs `MODULE.main`.

Until MODULE and all that it imports are there, nothing of the user's can be imported: not from the working directory,
not from `PYTHONPATH` (which the starter passes on under another name, for the interpreter would look there before this
file runs), not from what `.pth` files, `sitecustomize` and `usercustomize` have added. So a `queue.py` or `logging.py`
of a project is no module of ours, and whoever can write to a shared directory runs nothing there. This package is
found by the path of this file.

Then `main` gets the `Paths` and opens them when our own imports are done. From there on the process is as any
Python: its environment, its `sys.flags` and its children show no trace of this.
"""

# Nothing is imported here but what the interpreter has imported by itself; `__future__` would be looked for.
import os
import sys

_HELD_BACK = "EAGLERAY_PYTHONPATH"
_INSTALLED = ("site-packages", "dist-packages")


class Paths:
    """What this interpreter would look for modules in, had it been started plainly."""

    def __init__(self, python_path: str | None) -> None:
        own = python_path.split(os.pathsep) if python_path else []
        self._python_path = [os.path.abspath(entry) for entry in own]  # noqa: PTH100
        # Not the working directory, which is on many a PYTHONPATH by a colon too many.
        self._of_tools = [entry for entry in own if os.path.isabs(entry)]  # noqa: PTH117
        self._of_site = list(sys.path)
        self._finders = list(sys.meta_path)

    def close(self) -> None:
        """Leaves the standard library, installed packages and this package."""
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
        library = os.path.dirname(os.__file__)  # noqa: PTH120
        kept = [entry for entry in self._of_site if _is_installed(entry, library)]
        if package not in kept:
            kept.append(package)
        sys.path[:] = kept
        sys.meta_path[:] = [finder for finder in self._finders if _is_of_python(finder)]

    def open(self, first: list[str]) -> None:
        """Puts `first` first (where it is empty: `PYTHONPATH`), then what else a plain interpreter has."""
        sys.path[:] = self.opened(first)
        # Those that our own imports brought are kept.
        brought = [finder for finder in sys.meta_path if finder not in self._finders]
        sys.meta_path[:] = [*self._finders, *brought]
        self._customize()

    def opened(self, first: list[str]) -> list[str]:
        """What `open` will make of `sys.path`, before tools change it."""
        own = [*self._python_path, *self._of_site]
        return first + [entry for entry in own if entry not in first]

    def has_tools(self) -> bool:
        """Whether something on `PYTHONPATH` may change more as the paths are opened."""
        return bool(self._of_tools)

    def load(self, name: str) -> None:
        """Imports a module of ours, before the paths are opened."""
        try:
            __import__(name)
        except ModuleNotFoundError:
            # Something that we need is installed in another way, by a `.pth` file or a finder of its own.
            sys.path[:] = [*sys.path, *(entry for entry in self._of_site if entry not in sys.path)]
            sys.meta_path[:] = [*sys.meta_path, *(finder for finder in self._finders if finder not in sys.meta_path)]
            __import__(name)

    def _customize(self) -> None:
        """Imports what tools put on `PYTHONPATH` for the interpreter to import as it starts, as `site` would have."""
        if not self._of_tools:
            return
        import site
        from importlib.machinery import PathFinder
        from importlib.util import module_from_spec

        names = ["sitecustomize", "usercustomize"] if site.ENABLE_USER_SITE else ["sitecustomize"]
        for name in names:
            spec = PathFinder.find_spec(name, self._of_tools)
            if spec is None or spec.loader is None:
                continue
            module = sys.modules[name] = module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except Exception as error:
                sys.stderr.write(f"Error in {name}; its traceback is not shown: {type(error).__name__}: {error}\n")


def _is_installed(entry: str, library: str) -> bool:
    if os.path.basename(entry) in _INSTALLED:  # noqa: PTH119
        return True
    zipped = os.path.basename(entry) == f"python{sys.version_info[0]}{sys.version_info[1]}.zip"  # noqa: PTH119
    return zipped or entry == library or entry.startswith(library + os.sep)


def _is_of_python(finder: object) -> bool:
    # By the classes' own word: importing them to compare would be an import.
    return getattr(finder, "__module__", "") in ("_frozen_importlib", "_frozen_importlib_external")


def _begin() -> Paths:
    # The directory of this file, where the interpreter is not told to leave it out.
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):  # noqa: PTH100, PTH120
        del sys.path[0]
    python_path = os.environ.pop(_HELD_BACK, None)
    if python_path is not None:
        os.environ["PYTHONPATH"] = python_path
    paths = Paths(python_path)
    paths.close()
    return paths


def main() -> None:
    """Runs the module that the command line names."""
    paths = _begin()
    name = sys.argv.pop(1)
    paths.load(name)
    sys.modules[name].main(paths)


if __name__ == "__main__":
    main()
