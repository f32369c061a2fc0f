"""The laws of the house, held against the source: layers, abstract or final, docstrings, one way in."""

import ast
import importlib
import inspect
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import eqcrl

PACKAGE = Path(eqcrl.__file__).parent
PROJECT = PACKAGE.parent.parent / "pyproject.toml"

# Layer of each module or package; the longest name that fits counts. A module that is not listed fails the
# test: decide where it belongs before it grows.
LAYERS: dict[str, int] = {
    "eqcrl.__init__": 0,  # imports nothing but the names it is asked for
    "eqcrl.errors": 0,
    "eqcrl.registry": 0,
    "eqcrl.settings": 0,
    "eqcrl.config": 0,
    "eqcrl.presets": 0,
    "eqcrl.files": 0,
    "eqcrl.toml": 0,
    "eqcrl.rundir": 0,
    "eqcrl.lock": 0,
    "eqcrl.signals": 0,
    "eqcrl.sections": 0,
    "eqcrl.studies.builtin": 0,
    "eqcrl.jobs": 0,
    "eqcrl.jobs.sizing": 4,
    "eqcrl.launchers": 0,
    "eqcrl.requeue": 0,
    "eqcrl.trackers": 0,
    "eqcrl.sweeps": 4,
    "eqcrl.sweeps.folder": 0,
    "eqcrl.sweeps.methods": 0,
    "eqcrl.sweeps.bayes": 0,
    "eqcrl.sweeps.source": 0,
    "eqcrl.sweeps.space": 0,
    "eqcrl.sweeps.spec": 0,
    "eqcrl.studies.folder": 0,
    "eqcrl.studies.grid": 0,
    "eqcrl.studies.source": 0,
    "eqcrl.studies.spec": 0,
    "eqcrl.studies": 4,
    "eqcrl.peers": 0,
    "eqcrl.recorded": 0,
    "eqcrl.seedsdir": 0,
    "eqcrl.types": 1,
    "eqcrl.physics": 2,
    "eqcrl.robots": 2,
    "eqcrl.envs": 2,
    "eqcrl.nn": 2,
    "eqcrl.spread": 2,
    "eqcrl.energies": 2,
    "eqcrl.losses": 2,
    "eqcrl.relabel": 2,
    "eqcrl.actor_goals": 2,
    "eqcrl.agents": 3,
    "eqcrl.health": 3,
    "eqcrl.replay": 3,
    "eqcrl.rollout": 3,
    "eqcrl.epoch": 3,
    "eqcrl.evaluate": 3,
    "eqcrl.analysis": 4,
    "eqcrl.artifacts": 4,
    "eqcrl.assemble": 4,
    "eqcrl.checkpoint": 4,
    "eqcrl.device_memory": 4,
    "eqcrl.distributed": 4,
    "eqcrl.diagnose": 4,
    "eqcrl.estimate": 4,
    "eqcrl.export": 4,
    "eqcrl.logbook": 4,
    "eqcrl.parallel": 4,
    "eqcrl.saver": 4,
    "eqcrl.arrays": 4,
    "eqcrl.plan": 4,
    "eqcrl.plots": 4,
    "eqcrl.compile_cache": 4,
    "eqcrl.programs": 4,
    "eqcrl.progress": 4,
    "eqcrl.render": 4,
    "eqcrl.report": 4,
    "eqcrl.run": 4,
    "eqcrl.seeds": 4,
    "eqcrl.scene": 4,
    "eqcrl.statistics": 4,
    "eqcrl.trainer": 4,
    "eqcrl.video": 4,
    "eqcrl.cli": 5,
    "eqcrl.__main__": 5,
}
ARRAYS = {"jax", "jaxlib", "jaxtyping", "equinox", "optax", "numpy", "scipy"}
HOST = {
    "os",
    "io",
    "sys",
    "pathlib",
    "shutil",
    "tempfile",
    "glob",
    "subprocess",
    "socket",
    "signal",
    "json",
    "tomllib",
    "tomli_w",
    "time",
    "datetime",
    "logging",
    "rich",
    "click",
    "matplotlib",
    "imageio",
    "PIL",
}
MAY_TOUCH = {
    "eqcrl.envs.mazes": {"pathlib"},  # a layout may be a file of the user's
    "eqcrl.physics.mjx": {"io"},  # what MJX prints when it is imported
}

# Modules of more than 400 lines, and why they are not split.
LONG: dict[str, str] = {}


def module_name(path: Path) -> str:
    """`eqcrl.envs.base` for its file; `__init__` stands for its package, except the one at the top."""
    parts = ("eqcrl", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


SOURCES = {module_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {module: ast.parse(text) for module, text in SOURCES.items()}
MODULES = sorted(TREES)


def layer_of(module: str) -> int | None:
    parts = ("eqcrl.__init__" if module == "eqcrl" else module).split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 1, -1))
    return next((LAYERS[name] for name in names if name in LAYERS), None)


def imported(module: str, *, when_run: bool = False) -> Iterator[str]:
    """Full names of what a module imports, anywhere in it; with `when_run`, only what it does at once."""
    pending: list[ast.AST] = [TREES[module]]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: a relative import; write the full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in TREES else str(node.module)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        elif not (when_run and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            pending += ast.iter_child_nodes(node)


def ours(names: Iterator[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "eqcrl"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    layer = layer_of(module)
    assert layer is not None, f"{module} is in no layer; put it into the table"
    for name in ours(imported(module)):
        below = layer_of(name)
        assert below is not None, f"{module} imports {name}, which is in no layer"
        assert below <= layer, f"{module} (layer {layer}) imports {name} (layer {below})"


def test_the_table_lists_nothing_that_does_not_exist() -> None:
    packages = {".".join(name.split(".")[:n]) for name in MODULES for n in range(1, name.count(".") + 2)}
    assert LAYERS.keys() <= packages, LAYERS.keys() - packages


def test_no_module_imports_itself_around_a_corner() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in TREES and module not in done:
            for name in ours(imported(module, when_run=True)) - {"eqcrl"}:
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", [m for m in MODULES if layer_of(m) == 0])
def test_names_know_nothing_of_arrays(module: str) -> None:
    assert not {name.split(".")[0] for name in imported(module)} & ARRAYS


@pytest.mark.parametrize("module", [m for m in MODULES if layer_of(m) in (1, 2, 3)])
def test_the_core_knows_nothing_of_files_screens_or_clocks(module: str) -> None:
    found = {name.split(".")[0] for name in imported(module)} & HOST
    assert found <= MAY_TOUCH.get(module, set())
    calls = {ast.unparse(n.func) for n in ast.walk(TREES[module]) if isinstance(n, ast.Call)}
    assert not calls & {"open", "print", "input"}


def is_exception(node: ast.AST) -> bool:
    """By its base: an exception must hand its message to Python's own constructor."""
    bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
    return any(base.endswith(("Error", "Exception")) for base in bases)


@pytest.mark.parametrize("module", MODULES)
def test_no_super_and_no_hasattr(module: str) -> None:
    pending: list[ast.AST] = [TREES[module]]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name):
            assert node.id not in ("super", "hasattr"), f"{module} line {node.lineno}"
        if not is_exception(node):
            pending += ast.iter_child_nodes(node)


def classes() -> list[type]:
    """Every class that a module of eqcrl defines at its top."""
    found = []
    for module in MODULES:
        if module == "eqcrl.__main__":
            continue
        space = vars(importlib.import_module(module.removesuffix(".__init__")))
        names = [node.name for node in TREES[module].body if isinstance(node, ast.ClassDef)]
        found += [space[name] for name in names]
    return found


def full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def parents(cls: type) -> list[type]:
    """Classes of eqcrl that it derives from; errors are a plain hierarchy and do not count."""
    modules = set(MODULES) - {"eqcrl.errors"}
    return [base for base in cls.__mro__[1:] if base.__module__ in modules]


def is_abstract(cls: type) -> bool:
    variables = getattr(cls, "__abstractvars__", ()) or getattr(cls, "__abstractclassvars__", ())
    return bool(inspect.isabstract(cls) or variables)


def test_a_class_is_abstract_or_final() -> None:
    for cls in classes():
        for parent in parents(cls):
            final = not parent.__name__.startswith("Abstract")
            assert not final, f"{full_name(cls)} derives from {full_name(parent)}"


def test_what_is_called_abstract_is_abstract_and_nothing_else() -> None:
    for cls in classes():
        assert cls.__name__.startswith("Abstract") == is_abstract(cls), full_name(cls)


def test_only_abstract_members_are_overridden() -> None:
    for cls in classes():
        for parent in parents(cls):
            for name in vars(cls).keys() & vars(parent).keys():
                if inspect.isfunction(vars(parent)[name]) and not name.startswith("__"):
                    abstract = getattr(vars(parent)[name], "__isabstractmethod__", False)
                    assert abstract, f"{full_name(cls)} overrides {full_name(parent)}.{name}, a concrete method"


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef]]:
    """Public functions and classes, and public methods of public classes; `__call__` is public."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef) and (inner.name[0] != "_" or inner.name == "__call__"):
                    yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_a_docstring(module: str) -> None:
    bare = [name for name, node in public_definitions(TREES[module]) if not ast.get_docstring(node)]
    assert not bare
    assert ast.get_docstring(TREES[module]) or not TREES[module].body, "the module itself"


def declared() -> list[tuple[str, str, str]]:
    """(group, name, value) of every entry point in pyproject.toml, the console script included."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    return [(group, name, value) for group, points in groups.items() for name, value in points.items()]


@pytest.mark.parametrize(("group", "name", "value"), declared(), ids=lambda text: text)
def test_every_declared_entry_point_is_installed_and_loads(group: str, name: str, value: str) -> None:
    points = metadata.distribution("eqcrl").entry_points.select(group=group, name=name)
    assert [point.value for point in points] == [value], "install again: pyproject.toml has changed"
    (point,) = points
    assert point.load() is not None


def test_every_group_is_known_to_the_registry() -> None:
    from eqcrl.registry import GROUPS

    assert {group for group, _, _ in declared()} - {"console_scripts"} == set(GROUPS.values())


def test_files_are_small() -> None:
    lines = {module: len(text.splitlines()) for module, text in SOURCES.items()}
    assert sorted(lines.values())[len(lines) // 2] <= 150
    long = {module for module, count in lines.items() if count > 400}
    assert long == LONG.keys(), "more than 400 lines want a reason; write it into LONG"
