"""Memory of the device: found where systems say it, and plans beyond it refused with what would fit."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcrl.assemble import assemble, complete
from eqcrl.config import Config
from eqcrl.device_memory import (
    Memory,
    control_group_limit,
    device_memory,
    machine_memory,
    refuse_beyond,
)
from eqcrl.errors import ConfigError
from eqcrl.plan import make_plan
from helpers import TINY, tiny

DEEP = {"arch": "resnet-64", "arch.width": 32, "train.batch_size": 64}


def test_the_memory_of_this_machine() -> None:
    found = machine_memory()
    assert found is not None
    assert found.bytes <= psutil.virtual_memory().total
    assert device_memory() == found, "tests run on the CPU"


def system_files(root: Path, **files: str) -> Path:
    """A file system with these, `__` for the slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("memory_", "memory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_limits_of_control_groups(tmp_path: Path) -> None:
    assert control_group_limit(tmp_path / "nothing") is None
    two = system_files(
        tmp_path / "v2",
        proc__self__cgroup="0::/user/job",
        sys__fs__cgroup__user__job__memory_max="max",
        sys__fs__cgroup__user__memory_max="5000",
        sys__fs__cgroup__memory_max="9000",
    )
    assert control_group_limit(two) == 5000, "the smallest on the way up"
    inside = system_files(
        tmp_path / "container", proc__self__cgroup="0::/of/the/host", sys__fs__cgroup__memory_max="7000"
    )
    assert control_group_limit(inside) == 7000
    one = system_files(
        tmp_path / "v1",
        proc__self__cgroup="5:cpu,cpuacct:/\n4:memory:/job\n0::/",
        sys__fs__cgroup__memory__job__memory_limit_in_bytes="6000",
        sys__fs__cgroup__memory__memory_limit_in_bytes="9223372036854771712",
        sys__fs__cgroup__cpu__memory_limit_in_bytes="1",
    )
    assert control_group_limit(one) == 6000
    unlimited = system_files(tmp_path / "max", proc__self__cgroup="0::/", sys__fs__cgroup__memory_max="max")
    assert control_group_limit(unlimited) is None
    assert machine_memory(two) == Memory(5000, "the limit of this process's control group")
    whole = machine_memory(unlimited)
    assert whole is not None
    assert whole.limit == "the memory of this machine"


def test_an_accelerator_is_asked_for_what_its_allocator_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_stats(stats: dict[str, int] | None) -> Memory | None:
        device = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100", memory_stats=lambda: stats)
        monkeypatch.setattr(jax, "devices", lambda: [device])
        return device_memory()

    found = with_stats({"bytes_limit": 60_000, "bytes_in_use": 0})
    assert found is not None
    assert found.bytes == 60_000
    assert "what JAX may take of the NVIDIA H100" in found.limit
    assert with_stats({}) is None
    assert with_stats(None) is None


def refused(config: Config, available: int) -> str:
    """The mend with which this configuration is refused."""
    plan = make_plan(config, assemble(config))
    with pytest.raises(ConfigError, match="The plan needs") as caught:
        refuse_beyond(config, plan, Memory(available, "in this test"))
    assert "in this test" in caught.value.message
    assert caught.value.exit_code == 2
    assert caught.value.mend is not None
    return caught.value.mend


def needed(config: Config) -> int:
    return make_plan(config, assemble(config)).total_bytes()


def followed(settings: dict[str, Any], mend: str) -> Config:
    """The configuration with the flags of the mend."""
    flags = re.findall(r"--(\S+) (\w+)", mend)
    assert flags, mend
    given = {key.replace("-", "_"): value if key.endswith("remat") else int(value) for key, value in flags}
    return complete(Config.load(overrides=TINY | settings | given))


def test_what_fits_is_let_through() -> None:
    """To the byte; and where nobody tells how much there is, everything."""
    plan = make_plan(tiny(), assemble(tiny()))
    refuse_beyond(tiny(), plan, Memory(plan.total_bytes(), ""))
    refuse_beyond(tiny(), plan, None)
    with pytest.raises(ConfigError, match="The plan needs"):
        refuse_beyond(tiny(), plan, Memory(plan.total_bytes() - 1, ""))


def test_the_first_policy_that_fits_is_named() -> None:
    by_policy = {
        policy: needed(complete(Config.load(overrides=TINY | DEEP | {"arch.remat": policy})))
        for policy in ("none", "dots", "block", "nested")
    }
    assert by_policy["none"] >= by_policy["dots"] > by_policy["block"] > by_policy["nested"]
    config = complete(Config.load(overrides=TINY | DEEP | {"arch.remat": "dots"}))
    assert "With --arch.remat block it needs" in refused(config, by_policy["block"])
    assert "With --arch.remat nested it needs" in refused(config, by_policy["block"] - 1)
    assert "With --train.batch-size 32 --arch.remat nested it needs" in refused(config, by_policy["nested"] - 1)


def test_networks_of_their_own_get_the_policy_too() -> None:
    settings = DEEP | {"critic_arch": "resnet-64", "critic_arch.width": 32, "arch.remat": "none"}
    config = complete(Config.load(overrides=TINY | settings))
    both = {"arch.remat": "block", "critic_arch.remat": "block"}
    fits = needed(complete(Config.load(overrides=TINY | settings | both)))
    mend = refused(config, fits)
    assert "With --arch.remat block --critic-arch.remat block it needs" in mend
    assert needed(followed(settings, mend)) == fits


def test_an_architecture_without_policies_gets_a_smaller_batch() -> None:
    settings = {"arch": "mlp-16", "train.batch_size": 80}
    config = complete(Config.load(overrides=TINY | settings))
    mend = refused(config, needed(config) - 1)
    assert "--train.batch-size 40 it needs" in mend
    assert "remat" not in mend


def test_a_replay_that_is_too_large_is_told_the_capacity() -> None:
    settings = {"replay.capacity": 5_000_000}
    config = complete(Config.load(overrides=TINY | settings))
    mend = refused(config, needed(config) // 2)
    fits = followed(settings, mend)
    assert 2_000_000 < fits.replay.capacity < 2_500_000
    assert needed(fits) <= needed(config) // 2
    large = {"replay.capacity": 5_000_000, "replay.min_filled": 5_000_000, "train.total_env_steps": 10**8}
    assert "The replay is too large" in refused(complete(Config.load(overrides=TINY | large)), needed(config) // 2)


def test_networks_that_are_too_large_are_named() -> None:
    config = complete(Config.load(overrides=TINY | DEEP | {"train.batch_size": 2}))
    assert "Networks, optimizers and gradients alone are too large" in refused(config, needed(config) // 4)


@settings(max_examples=8)  # each of them builds five systems
@given(
    part=st.floats(0.01, 0.999),
    depth=st.sampled_from([4, 64]),
    batch=st.sampled_from([2, 16, 160]),
    capacity=st.sampled_from([50, 20_000]),
)
@pytest.mark.thorough
def test_what_is_advised_fits(part: float, depth: int, batch: int, capacity: int) -> None:
    chosen = {"arch": f"resnet-{depth}", "train.batch_size": batch, "replay.capacity": capacity}
    config = complete(Config.load(overrides=TINY | chosen))
    available = int(part * needed(config))
    mend = refused(config, available)
    if "it needs" in mend:
        assert needed(followed(chosen, mend)) <= available
    else:
        assert "too large" in mend


def test_nothing_is_computed() -> None:
    """Hundreds of gigabytes of networks, refused on any machine."""
    assert "too large" in refused(tiny(arch__depth=1024, arch__width=4096), 2**30)
