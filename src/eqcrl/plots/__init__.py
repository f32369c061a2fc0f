"""Pictures of runs, without screen or global state: learning curves, comparisons over seeds, trajectories."""

from eqcrl.plots.curves import compare as compare
from eqcrl.plots.curves import learning_curve as learning_curve
from eqcrl.plots.groups import group_runs as group_runs
from eqcrl.plots.groups import mean_interval as mean_interval
from eqcrl.plots.trajectories import trajectories as trajectories
