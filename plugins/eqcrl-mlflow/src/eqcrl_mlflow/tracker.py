"""The tracker `mlflow`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from eqcrl.files import write_atomically
from eqcrl.settings import Meta
from eqcrl.trackers.base import AbstractTracker, Line, Status, Tracked

AXIS = "env_steps"
PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 1000
"""What MLflow takes in one request."""
LONGEST_PARAM = 6000
ENDS = {"finished": "FINISHED", "stopped": "KILLED", "diverged": "FAILED", "failed": "FAILED"}


@dataclass
class MLflow(AbstractTracker):
    """An MLflow run for each run of eqcrl, its steps being environment steps.

    Its id is in `mlflow-run.txt` in the run directory, and a run that is continued goes on in it. MLflow cannot forget:
    if it has steps past the checkpoint (the process was killed, not stopped), a new MLflow run takes over with the
    lines that count, and the older one is deleted as MLflow deletes, to be restored if wanted.
    """

    uri: Annotated[
        str | None, Meta(description="a folder (file:...) or a server; by default $MLFLOW_TRACKING_URI, else ./mlruns")
    ] = None
    experiment: Annotated[str, Meta(description="experiment in MLflow")] = "eqcrl"
    client: Any = field(default=None, init=False)
    run_id: str = field(default="", init=False)
    metric: Any = field(default=None, init=False)

    def start(self, run: Tracked) -> None:
        """Begin or continue the MLflow run."""
        import os

        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").resolve().as_uri()
        if uri.startswith("file:"):
            # MLflow asks for this since it prefers databases; a folder needs no further package.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        # Imported here, on the tracker's own thread: it takes a second, and `eqcrl list` does without.
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        self.client, self.metric = MlflowClient(tracking_uri=uri), Metric
        note = run.path / "mlflow-run.txt"
        older = note.read_text(encoding="utf-8").strip() if note.exists() else ""
        if older and self._holds_nothing_but(older, run.history):
            self.run_id = older
            self.client.update_run(older, status="RUNNING")
            return
        self.run_id = self._new_run(run)
        write_atomically(note, self.run_id + "\n")
        if older:
            self.client.set_tag(older, "eqcrl.superseded_by", self.run_id)
            self.client.delete_run(older)

    def log(self, line: Line) -> None:
        """Hand on one line."""
        self._log([line])

    def finish(self, status: Status) -> None:
        """Say how the run ended; a stopped one counts as killed until it is continued."""
        self.client.set_terminated(self.run_id, status=ENDS[status])

    def _new_run(self, run: Tracked) -> str:
        from mlflow.entities import Param  # pyright: ignore[reportMissingImports]

        number = self._experiment_id()
        group = {"eqcrl.group": run.group} if run.group else {}
        made = self.client.create_run(number, run_name=run.name, tags={"eqcrl.path": str(run.path)} | group)
        self.run_id = made.info.run_id
        params = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in run.config.items()]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self.client.log_batch(self.run_id, params=params[start : start + PARAMS_AT_ONCE])
        self._log([{k: v for k, v in row.items() if v is not None} for row in run.history])
        return self.run_id

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

        if (found := self.client.get_experiment_by_name(self.experiment)) is None:
            try:
                return self.client.create_experiment(self.experiment)
            except MlflowException:
                # Another run may have made it in the meantime; if not, this says what is the matter.
                found = self.client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return found.experiment_id

    def _log(self, lines: Sequence[Line]) -> None:
        now = int(1000 * time.time())
        metrics = [
            self.metric(name, value, now, int(line[AXIS]))
            for line in lines
            for name, value in line.items()
            if name != AXIS
        ]
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + METRICS_AT_ONCE])

    def _holds_nothing_but(self, run_id: str, history: Sequence[Any]) -> bool:
        """Whether the steps of a run are those of the history, each once."""
        from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

        try:
            kept = [m.step for m in self.client.get_metric_history(run_id, "wall_seconds")]
            deleted = self.client.get_run(run_id).info.lifecycle_stage == "deleted"
        except MlflowException:
            return False  # another store, or it was removed for good
        return not deleted and sorted(kept) == sorted(int(row[AXIS]) for row in history)
