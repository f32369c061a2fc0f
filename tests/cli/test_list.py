"""`eqcrl list`: what is installed, from metadata."""

import json

import pytest

from cli.conftest import Command
from eqcrl import registry
from eqcrl.cli.main import SUMMARIES


def rows(eqcrl: Command, *args: str) -> list[dict[str, str]]:
    answer = eqcrl("list", *args, "--json")
    assert answer.code == 0
    return json.loads(answer.out)


def test_everything(eqcrl: Command) -> None:
    found = rows(eqcrl)
    assert {r["kind"] for r in found} == set(registry.GROUPS)
    assert all(r.keys() == {"kind", "name", "distribution", "version", "object"} for r in found)
    ours = {(r["kind"], r["name"].removeprefix("eqcrl/")): r for r in found if r["distribution"] == "eqcrl"}
    assert ours["env", "point-u-maze"]["object"] == "eqcrl.envs.point:u_maze"
    for part in (
        ("env", "point-hardest-maze-fixed-start"), ("arch", "resnet"), ("arch", "mlp"), ("energy", "cosine"),
        ("loss", "nce-binary"), ("relabeller", "geometric"), ("actor-goals", "mixed"), ("agent", "crl"),
        ("preset", "paper"), ("block", "dense-norm-swish"),
    ):  # fmt: skip
        assert part in ours
    assert {name for kind, name in ours if kind == "command"} == SUMMARIES.keys()


@pytest.mark.parametrize("kind", registry.GROUPS)
def test_one_kind(eqcrl: Command, kind: str) -> None:
    found = rows(eqcrl, kind)
    assert found == [r for r in rows(eqcrl) if r["kind"] == kind]
    # What is listed can be asked for by the name in the list.
    for row in found:
        assert registry.resolve(kind, row["name"]).entry.distribution == row["distribution"]


def test_the_table(eqcrl: Command) -> None:
    answer = eqcrl("list", "energy")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split() == ["kind", "name", "distribution", "object"]
    shown = [line.split() for line in lines[1:]]
    assert shown[0][0] == "energy"
    row = next(words for words in shown if "l2-squared" in words)
    assert row[-1] == "eqcrl.energies:L2Squared"
