"""What happens along the depth of networks: stream, varying part, change and gradient, block by block."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from eqcrl.diagnose import Profile
from eqcrl.errors import UsageError
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import house_style, line_style, new_figure

_PANELS = (
    ("stream", "stream after the block (rms)"),
    ("varying", "part of it that depends on the input (rms)"),
    ("change", "change by the block (rms, share of the stream)"),
    ("gradient", "gradient to the block (norm)"),
)


def depth_profile(profiles: Mapping[str, Profile], path: str | Path, *, title: str = "") -> Figure:
    """Four panels over the blocks, a line for each network; logarithmic, because depth multiplies.

    The suffix of `path` (.png, .pdf, .svg) chooses the format.
    Raises: UsageError for no networks or an unknown suffix; RunError if the disk refuses.
    """
    if not profiles:
        raise UsageError(
            "There is nothing to draw along the depth: no network holds a stack of equal blocks.",
            mend="The statistics of whole networks are in the table.",
        )
    with house_style():
        figure = new_figure(9.0, 6.0)
        for axes, (field, name) in zip(figure.subplots(2, 2).ravel(), _PANELS, strict=True):
            for i, (network, profile) in enumerate(profiles.items()):
                values = getattr(profile, field)
                marker = {"marker": "o", "markersize": 3.5} if len(values) <= 30 else {}
                axes.plot(range(1, len(values) + 1), values, **line_style(i), **marker, label=network)
            axes.set_yscale("log")
            axes.set_title(name)
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in figure.axes[2:]:
            axes.set_xlabel("block")
        figure.axes[0].legend(loc="best")
        if title:
            figure.suptitle(title, fontsize=12)
        save_figure(figure, Path(path))
    return figure
