"""Compiled programs kept on disk: the second process compiles nothing, and nothing changes."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from eqcrl import compile_cache
from helpers import TINY

SCRIPT = """
import hashlib, json, sys
import jax, numpy as np
from jax._src import monitoring
from eqcrl.assemble import assemble, complete
from eqcrl.config import Config

found = {"hits": 0, "misses": 0}
def count(event, **_):
    for name in found:
        found[name] += event == "/jax/compilation_cache/cache_" + name
jax.random.normal(jax.random.key(0))  # compiled before the cache is on
monitoring.register_event_listener(count)
from eqcrl.programs import compile_programs
programs = compile_programs(assemble(complete(Config.load(overrides=json.loads(sys.argv[1])))))
state, metrics = programs.epoch(programs.init(jax.random.key(0)))
arrays = [np.asarray(leaf) for leaf in jax.tree.leaves((state.agent, metrics))]
found["bits"] = hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()
print(json.dumps(found))
"""


def start(cache: str, **settings: object) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps({**TINY, **settings})],
        env={**_clean(), "EQCRL_COMPILE_CACHE": cache},
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def _clean() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))}


def test_the_second_start_compiles_nothing(tmp_path: Path) -> None:
    first, second = start(str(tmp_path)), start(str(tmp_path))
    assert first["misses"] >= 3  # the large programs; those that compile in a moment are not kept
    if second["misses"]:
        # Of one on the border, a moment on one start may be more than a moment on the next.
        assert second["misses"] == 1
        second = start(str(tmp_path))
    assert second["misses"] == 0
    assert second["hits"] >= first["misses"]
    assert second["bits"] == first["bits"]
    other = start(str(tmp_path), **{"arch.width": 12})
    assert other["misses"] >= 1  # another network is another program
    assert other["bits"] != first["bits"]


def test_what_the_user_set_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv(compile_cache.SWITCH, "off")
    assert compile_cache.turn_on() is None
    assert jax.config.jax_compilation_cache_dir == before
    monkeypatch.delenv(compile_cache.SWITCH)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        assert compile_cache.turn_on() == tmp_path
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_each_kind_of_processor_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    here = compile_cache.folder()
    assert here == compile_cache.folder()
    monkeypatch.setattr(compile_cache, "_processor", lambda: "another one")
    assert compile_cache.folder() != here
    assert compile_cache.folder().parent == here.parent
