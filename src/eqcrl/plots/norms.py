"""How much each block adds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from eqcrl.analysis import BlockUpdates
from eqcrl.errors import UsageError
from eqcrl.plots.layout import legend_below, panel_figure
from eqcrl.plots.output import save_figure
from eqcrl.plots.style import house_style, line_style

FEW = 40
"""Blocks up to which each is a dot as well."""
MUCH = 20
"""Ratio of the largest to the smallest norm beyond which the axis is logarithmic."""


def residual_norms(found: Mapping[str, BlockUpdates], path: str | Path, *, title: str = "") -> Figure:
    """A panel for each network, in it a line for each label (`eqcrl.analysis.block_updates`): the mean L2 norm of what
    a block adds to the stream, over the blocks. All panels have one scale, logarithmic if the norms differ much.

    Raises: UsageError for runs without a network that repeats blocks, or an unknown suffix; RunError if the disk
    refuses.
    """
    networks = list(dict.fromkeys(name for one in found.values() for name in one.networks))
    if not networks:
        raise UsageError(
            "There are no blocks to draw along: no network of the runs repeats its blocks by eqcrl.nn.stacked.",
            mend="Give runs of `--arch resnet`.",
        )
    labels = list(found)
    every = np.concatenate([norms for one in found.values() for norms in one.networks.values()])
    least, most = float(every.min()), float(every.max())
    # A block may add nothing at all, which has no place on a logarithmic axis.
    scale = "log" if least > 0 and most > MUCH * least else "linear"
    limits = (least / 1.3, most * 1.3) if scale == "log" else (0.0, 1.08 * most or 1.0)
    with house_style():
        figure, grid = panel_figure(len(networks), width=3.4, height=3.2, single=5.0, entries=labels)
        for axes, name in zip(grid, networks, strict=True):
            for i, one in enumerate(found.values()):
                if name in one.networks:
                    norms = one.networks[name]
                    marker = {"marker": "o", "markersize": 3.5} if len(norms) <= FEW else {}
                    axes.plot(np.arange(1, len(norms) + 1), norms, **line_style(i), **marker)
            axes.set_yscale(scale)
            axes.set_ylim(*limits)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_title(name)
            axes.set_xlabel("block")
        grid[0].set_ylabel("L2 norm of the block's update")
        if title:
            figure.suptitle(title, fontsize=11)
        legend_below(figure, [(Line2D([], [], **line_style(i)), label) for i, label in enumerate(labels)])
        save_figure(figure, Path(path))
    return figure
