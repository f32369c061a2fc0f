"""Pictures of runs, without screen or global state: learning curves, final scores, and looks into trained networks."""

from eqcrl.plots.against import score_against as score_against
from eqcrl.plots.against import score_panels as score_panels
from eqcrl.plots.bars import score_bars as score_bars
from eqcrl.plots.curves import compare as compare
from eqcrl.plots.curves import compare_panels as compare_panels
from eqcrl.plots.curves import learning_curve as learning_curve
from eqcrl.plots.groups import along as along
from eqcrl.plots.groups import group_runs as group_runs
from eqcrl.plots.groups import panels as panels
from eqcrl.plots.heat import heat_map as heat_map
from eqcrl.plots.metrics import metric_limits as metric_limits
from eqcrl.plots.metrics import metric_name as metric_name
from eqcrl.plots.norms import residual_norms as residual_norms
from eqcrl.plots.phi import embeddings as embeddings
from eqcrl.plots.profiles import profiles as profiles
from eqcrl.plots.trajectories import trajectories as trajectories
from eqcrl.plots.values import q_map as q_map
