"""One page about runs and studies that needs nothing beside it: what was run, what came of it, and what failed."""

from eqcrl.report.write import write_report as write_report
