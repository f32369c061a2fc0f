"""Development sessions: `nox` runs lint, types and tests; `nox -s NAME` one of them; `nox -l` lists all.

Requirements stand in pyproject.toml alone: sessions install eqcrl with the extra they need, or pick single tools
out of the `dev` extra. Arguments after `--` go to the tool.
"""

import json
import os
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"

ROOT = Path(__file__).parent
DEV = nox.project.load_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]["dev"]


def tool(name: str) -> str:
    """The requirement of a tool as the `dev` extra states it."""
    return next(requirement for requirement in DEV if requirement.startswith(name))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install(tool("ruff"))
    session.run("ruff", "check", *(session.posargs or ["."]))
    session.run("ruff", "format", "--check", *(session.posargs or ["."]))


@nox.session
def types(session: nox.Session) -> None:
    """Static types of src and plugins."""
    session.install("-e", ".[test]", tool("pyright"))
    session.run("pyright", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session
def worlds(session: nox.Session) -> None:
    """`eqcrl check env` on every built-in environment, and the tests of the worlds that take too long for `tests`."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "worlds")
    listed = session.run("eqcrl", "list", "env", "--json", silent=True)
    for part in json.loads(str(listed)):
        session.run("eqcrl", "check", "env", part["name"], *session.posargs)


@nox.session
def statistics(session: nox.Session) -> None:
    """Statistics beside those of rliable, which does not import with pandas 3; `-- -s` prints the differences."""
    session.install("-e", ".[test]", "rliable==1.2.0", "pandas<3")
    session.run("pytest", "-m", "rliable", "tests/test_statistics_rliable.py", *session.posargs)


@nox.session
def warp(session: nox.Session) -> None:
    """The tests of the physics engines with MJX-Warp installed (370 MB)."""
    session.install("-e", ".[test,warp]")
    session.run("pytest", "tests/physics/test_warp.py", "tests/physics/test_engines.py", *session.posargs)


@nox.session
def plugins(session: nox.Session) -> None:
    """The contract tests of every package under plugins/."""
    packages = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
    if not packages:
        session.error("there is no package under plugins/")
    session.install("-e", ".[test]", *(part for package in packages for part in ("-e", str(package))))
    for package in packages:
        session.run("pytest", "--rootdir", str(package), str(package / "tests"), *session.posargs)


@nox.session
def agents(session: nox.Session) -> None:
    """Every agent learns to reach goals on the open floor, and hindsight helps in the maze (half an hour)."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "learning", "tests/agents/test_learning.py", "-s", *session.posargs)


@nox.session
def thorough(session: nox.Session) -> None:
    """Tests that take long and that few changes can break; they are left out of `tests`."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "thorough", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Processes that are killed, disks that are full: tests, and the table of docs/reliability.md (half an hour)."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "faults")
    session.run("python", "-m", "benchmarks.faults", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a broken link or reference is an error."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks beside their baselines, and beside earlier versions; arguments go to pytest.

    Writes the JSON of pytest-benchmark and a record of it; fails if something got slower than in the records kept in
    benchmarks/results. E.g. `-- --unrolled-max-depth 64`, `-- -k replay`.
    """
    session.install("-e", ".[test]")
    folder = Path(os.environ.get("OUT") or ROOT / "benchmarks" / "results").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "bench.json"
    session.run(
        "python",
        "-m",
        "pytest",
        "benchmarks",
        "--benchmark-enable",
        f"--benchmark-json={result}",
        "-q",
        *session.posargs,
    )
    said = str(session.run("python", "-m", "benchmarks.records", str(result), silent=True))
    record = said.splitlines()[-1]
    session.run("python", "-m", "benchmarks.table", record)
    session.run("python", "-m", "benchmarks.compare", record)


@nox.session(name="gpu-aot")
def gpu_aot(session: nox.Session) -> None:
    """Kernels per layer of what a GPU would run, compiled for an H100 without one (1.3 GB of compilers)."""
    session.install("-e", ".")
    version = str(session.run("python", "-c", "import jax; print(jax.__version__)", silent=True)).strip()
    session.install(f"jax-cuda12-plugin=={version}", f"jax-cuda12-pjrt=={version}", "nvidia-cuda-nvcc-cu12")
    session.run("python", "-m", "benchmarks.aot", *session.posargs)
    session.run("python", "-m", "benchmarks.aot.fused")
