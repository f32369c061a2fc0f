"""Options and shared results of the benchmarks."""

from typing import Any

import pytest

from benchmarks.records import about_this_process


def pytest_addoption(parser: pytest.Parser) -> None:
    """How deep the unrolled baseline is compiled: that takes minutes at 256 and most of an hour at 1024."""
    parser.addoption(
        "--unrolled-max-depth",
        type=int,
        default=256,
        help="deepest unrolled baseline that is compiled and measured; beyond it, times are extrapolated and say so",
    )


@pytest.fixture(scope="session")
def unrolled_max_depth(request: pytest.FixtureRequest) -> int:
    """The deepest unrolled network that is measured."""
    return request.config.getoption("--unrolled-max-depth")


@pytest.fixture(scope="session")
def unrolled_seconds() -> dict[int, tuple[float, float]]:
    """Median wall and CPU seconds of an unrolled gradient step by depth, filled by the benchmarks that measure them."""
    return {}


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Versions and cores go with the results: a record of them is compared with others."""
    output_json["eqcrl"] = about_this_process()
