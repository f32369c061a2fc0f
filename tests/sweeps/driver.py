"""The command line with the trainer that takes no time: `python driver.py sweep ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from eqcrl.cli import main
from eqcrl.jobs import processes, sizes
from sweeps.conftest import TRAINER, quick

if __name__ == "__main__":
    processes.EQCRL = (sys.executable, str(TRAINER))
    sizes.measure = quick
    main.run(sys.argv[1:])
