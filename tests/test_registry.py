"""Parts by name: real distributions on disk, declared well, badly and twice."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eqcrl import registry
from eqcrl.energies import L2
from eqcrl.errors import BrokenPlugin, NameConflict, UnknownName

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution on the path as an installer would: its metadata directory, and its one module."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(distribution: str, entry_points: str, module: str = "", version: str = "1.2.3") -> Path:
        package = distribution.replace("-", "_")
        info = tmp_path / f"{package}-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        (tmp_path / f"{package}.py").write_text(module, encoding="utf-8")
        registry.refresh()
        return tmp_path

    yield write
    for name in [n for n, m in sys.modules.items() if str(tmp_path) in str(getattr(m, "__file__", None))]:
        del sys.modules[name]
    monkeypatch.undo()
    registry.refresh()


def names(kind: str) -> set[str]:
    return {entry.name for entry in registry.entries(kind)}


def test_built_ins_are_found_like_everything_else() -> None:
    entry = registry.resolve("energy", "l2").entry
    assert (entry.distribution, entry.qualified()) == ("eqcrl", "eqcrl/l2")
    assert entry.origin() == f"eqcrl {entry.version} (eqcrl.energies:L2)"
    assert registry.load("energy", "l2") is L2
    assert registry.load("energy", "eqcrl/l2") is L2


def test_entries_are_sorted_by_name() -> None:
    for kind in registry.GROUPS:
        listed = [entry.name for entry in registry.entries(kind)]
        assert listed == sorted(listed)
        assert len(set(listed)) == len(listed)


def test_listing_imports_nothing_neither_jax_nor_the_plugins(install: Install) -> None:
    path = install("eqcrl-loud", "[eqcrl.energies]\nloud = eqcrl_loud:Loud\n", "raise RuntimeError")
    code = (
        "import sys; from eqcrl import registry\n"
        "listed = [e.qualified() for kind in registry.GROUPS for e in registry.entries(kind)]\n"
        "registry.resolve('arch', 'resnet-1024'); registry.resolve('energy', 'loud')\n"
        "assert 'eqcrl-loud/loud' in listed and 'eqcrl/point-u-maze' in listed, listed\n"
        "assert not {'jax', 'equinox', 'numpy', 'eqcrl_loud', 'eqcrl.energies'} & sys.modules.keys()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(path)},
    )
    assert result.returncode == 0, result.stderr


def test_a_plugin_is_found_after_refresh_and_loaded_by_either_name(install: Install) -> None:
    before = names("energy")
    install("eqcrl-sum", "[eqcrl.energies]\nsum = eqcrl_sum:Sum\n", "class Sum: ...")
    assert names("energy") == before | {"sum"}
    assert registry.load("energy", "sum").__name__ == "Sum"
    assert registry.load("energy", "eqcrl-sum/sum") is registry.load("energy", "sum")
    assert registry.resolve("energy", "sum").entry.origin() == "eqcrl-sum 1.2.3 (eqcrl_sum:Sum)"


def test_an_unknown_kind_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"There is no kind of part called 'enrgy'.*\n.*'energy'"):
        registry.entries("enrgy")


def test_an_unknown_name_gets_the_nearest_and_the_command_that_lists() -> None:
    with pytest.raises(UnknownName) as caught:
        registry.load("env", "point-umaze")
    assert caught.value.message == "There is no env called 'point-umaze'."
    assert "'point-u-maze'" in caught.value.mend
    assert "`eqcrl list env`" in caught.value.mend


@pytest.mark.parametrize("name", ["", "/", "eqcrl/", "/l2", "eqcrl/l2/", "nobody/l2", "L2", "l2-8", "energies:L2"])
def test_names_that_nothing_has(name: str) -> None:
    with pytest.raises(UnknownName, match="There is no energy called"):
        registry.resolve("energy", name)


def test_a_number_is_a_parameter_only_where_the_kind_has_one(install: Install) -> None:
    assert registry.resolve("arch", "resnet-1024").params == {"depth": 1024}
    assert registry.resolve("arch", "eqcrl/resnet-8").params == {"depth": 8}
    assert registry.resolve("arch", "resnet").params == {}
    with pytest.raises(UnknownName):
        registry.resolve("env", "point-u-maze-3")
    install("eqcrl-nets", "[eqcrl.archs]\nresnet-50 = eqcrl_nets:Fifty\n", "class Fifty: ...")
    assert registry.resolve("arch", "resnet-50") == registry.Reference(
        next(e for e in registry.entries("arch") if e.name == "resnet-50"), {}
    ), "a name that is declared as such wins"


@pytest.mark.parametrize(
    ("module", "target", "reason"),
    [
        ("import eqcrl_is_not_complete", "eqcrl_bad:Part", "ModuleNotFoundError: No module named"),
        ("1 / 0", "eqcrl_bad:Part", "ZeroDivisionError: division by zero"),
        ("def broken(:", "eqcrl_bad:Part", "SyntaxError"),
        ("class Other: ...", "eqcrl_bad:Part", "AttributeError: .*Part"),
        ("", "eqcrl_absent:Part", "ModuleNotFoundError: No module named 'eqcrl_absent'"),
    ],
    ids=["missing dependency", "raises", "syntax", "missing attribute", "missing module"],
)
def test_a_broken_plugin_names_itself_and_breaks_nothing_else(
    install: Install, module: str, target: str, reason: str
) -> None:
    install("eqcrl-bad", f"[eqcrl.energies]\nbad = {target}\n", module, version="0.7")
    assert "bad" in names("energy"), "it is still listed"
    with pytest.raises(BrokenPlugin, match=reason) as caught:
        registry.load("energy", "bad")
    assert caught.value.message.startswith(f"The energy 'bad' of eqcrl-bad 0.7 ({target}) cannot be loaded: ")
    assert "uninstall eqcrl-bad" in caught.value.mend
    assert caught.value.__cause__ is not None
    assert registry.load("energy", "l2") is L2


def test_a_broken_part_leaves_the_others_of_its_distribution_alone(install: Install) -> None:
    declared = "[eqcrl.energies]\nbad = eqcrl_half:Absent\ngood = eqcrl_half:Good\n"
    install("eqcrl-half", declared, "class Good: ...")
    with pytest.raises(BrokenPlugin):
        registry.load("energy", "bad")
    assert registry.load("energy", "good").__name__ == "Good"


def test_two_distributions_of_one_name_conflict_until_one_is_qualified(install: Install) -> None:
    install("eqcrl-one", "[eqcrl.energies]\nsum = eqcrl_one:Sum\n", "class Sum: ...")
    install("eqcrl-two", "[eqcrl.energies]\nsum = eqcrl_two:Sum\n", "class Sum: ...", version="2.0")
    with pytest.raises(NameConflict) as caught:
        registry.load("energy", "sum")
    assert caught.value.message == (
        "2 installed distributions offer the energy 'sum': "
        "eqcrl-one 1.2.3 (eqcrl_one:Sum); eqcrl-two 2.0 (eqcrl_two:Sum)."
    )
    assert caught.value.mend == "Write 'eqcrl-one/sum' or 'eqcrl-two/sum', or uninstall one of them."
    for distribution in ("eqcrl_one", "eqcrl_two"):
        assert registry.load("energy", f"{distribution.replace('_', '-')}/sum").__module__ == distribution


def test_a_plugin_cannot_take_the_name_of_a_built_in(install: Install) -> None:
    install("eqcrl-thief", "[eqcrl.energies]\nl2 = eqcrl_thief:L2\n", "class L2: ...")
    with pytest.raises(NameConflict, match=r"'eqcrl/l2' or 'eqcrl-thief/l2'"):
        registry.load("energy", "l2")
    assert registry.load("energy", "eqcrl/l2") is L2
    assert registry.load("energy", "eqcrl-thief/l2").__module__ == "eqcrl_thief"


def test_a_numbered_name_meets_a_conflict_too(install: Install) -> None:
    install("eqcrl-thief", "[eqcrl.archs]\nresnet = eqcrl_thief:ResNet\n", "class ResNet: ...")
    with pytest.raises(NameConflict, match="'eqcrl/resnet' or 'eqcrl-thief/resnet'"):
        registry.resolve("arch", "resnet-8")
    assert registry.resolve("arch", "eqcrl-thief/resnet-8").params == {"depth": 8}


def test_one_name_in_two_groups_is_no_conflict(install: Install) -> None:
    install("eqcrl-both", "[eqcrl.losses]\nl2 = eqcrl_both:Loss\n", "class Loss: ...")
    assert registry.load("energy", "l2") is L2
    assert registry.load("loss", "l2").__name__ == "Loss"
