"""Options and shared results of the benchmarks."""

import pytest


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
