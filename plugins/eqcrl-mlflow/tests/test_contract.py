"""The contract of trackers in a local store, and what is special about MLflow: it cannot forget."""

from pathlib import Path

import pytest
from eqcrl_mlflow.tracker import MLflow
from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

from eqcrl import registry
from eqcrl.trackers.check import check_tracker, tracked
from eqcrl.trackers.choose import settings_of


@pytest.fixture
def uri(tmp_path: Path, monkeypatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


def run_of(path: Path, uri: str):
    return MlflowClient(tracking_uri=uri).get_run((path / "mlflow-run.txt").read_text().strip())


def read_from(uri: str):
    def read(path: Path) -> dict[int, dict[str, float]]:
        found: dict[int, dict[str, float]] = {}
        run = run_of(path, uri)
        assert run.info.status == "FINISHED"
        for name in run.data.metrics:
            for metric in MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, name):
                assert name not in found.setdefault(metric.step, {}), "a step twice"
                found[metric.step][name] = metric.value
        return found

    return read


def test_it_keeps_the_contract(tmp_path, uri):
    check_tracker(lambda: MLflow(uri=uri), tmp_path / "runs", read_from(uri))


def test_one_run_is_shown_for_each_run_of_eqcrl(tmp_path, uri):
    check_tracker(lambda: MLflow(uri=uri), tmp_path / "runs", read_from(uri))
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("eqcrl")
    shown = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in shown) == ["one", "other"]
    assert {run.data.params["arch.depth"] for run in shown} == {"64"}


def test_a_run_that_was_stopped_goes_on_in_the_same_record(tmp_path, uri):
    tracker = MLflow(uri=uri, experiment="depths")
    tracker.start(tracked(tmp_path))
    tracker.log({"env_steps": 100, "wall_seconds": 1.0})
    tracker.finish("stopped")
    first = run_of(tmp_path, uri)
    assert first.info.status == "KILLED"
    tracker = MLflow(uri=uri, experiment="depths")
    tracker.start(tracked(tmp_path, [{"env_steps": 100, "wall_seconds": 1.0}]))
    assert run_of(tmp_path, uri).info.status == "RUNNING"
    tracker.log({"env_steps": 200, "wall_seconds": 2.0})
    tracker.finish("finished")
    assert run_of(tmp_path, uri).info.run_id == first.info.run_id
    assert sorted(read_from(uri)(tmp_path)) == [100, 200]


def test_the_name_leads_to_the_tracker():
    assert registry.load("tracker", "eqcrl-mlflow/mlflow") is MLflow
    assert {"uri", "experiment"} == settings_of("eqcrl-mlflow/mlflow").keys()
