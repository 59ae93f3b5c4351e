import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from specbeam.bundle import Bundle, BundleError, load_bundle
from specbeam.bundle.reporting import add_to_report
from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import DatasetError, TrainingError
from specbeam.training.evaluation import evaluate as module
from specbeam.training.evaluation.evaluate import run_evaluation
from specbeam.training.evaluation.fitted import BaselineOptions
from specbeam.training.evaluation.metrics import ndcg_at, recall_at
from specbeam.training.evaluation.plot import plot_evaluation
from specbeam.training.evaluation.saving import save_users
from specbeam.training.evaluation.stages import Stage
from specbeam.training.evaluation.values import NO_ITEM
from specbeam.training.sasrec.config import SasRecConfig

SASREC = SasRecConfig(hidden_size=8, max_epochs=1)
EVERYTHING = ("popularity", "co-occurrence", "item-knn", "sasrec")


class RecordingReporter:
    def __init__(self) -> None:
        self.lines: list[tuple[str, float, str]] = []

    def update(self, phase: str, progress: float, text: str) -> None:
        self.lines.append((phase, progress, text))

    def note(self, text: str) -> None:
        raise AssertionError(text)


def test_the_report_holds_what_each_user_got(bundle: Bundle, small_dataset: Dataset) -> None:
    reporter = RecordingReporter()
    evaluation = run_evaluation(
        bundle,
        small_dataset,
        baselines=EVERYTHING,
        options=BaselineOptions(SASREC),
        reporter=reporter,
    )
    report = json.loads(json.dumps(evaluation.report))
    assert set(report["results"]) == {"target", *EVERYTHING}
    assert set(report["differences"]) == set(EVERYTHING)
    for name, ranked in evaluation.rankings.items():
        lists = [[item for item in row if item != NO_ITEM] for row in ranked.tolist()]
        pairs = [
            (row, user.truth.tolist()) for row, user in zip(lists, evaluation.users, strict=True)
        ]
        entry = report["results"][name]["all"]
        assert entry["users"] == len(pairs)
        recall = np.mean([recall_at(row, truth, 10) for row, truth in pairs])
        ndcg = np.mean([ndcg_at(row, truth, 20) for row, truth in pairs])
        assert entry["recall@10"]["mean"] == pytest.approx(recall)
        assert entry["ndcg@20"]["mean"] == pytest.approx(ndcg)
        assert entry["recall@10"]["low"] <= recall <= entry["recall@10"]["high"]
        for row, user in zip(lists, evaluation.users, strict=True):
            assert not set(row) & set(user.history.tolist())
    assert report["rankers"]["item-knn"]["chosen_by"] == "valid ndcg@10"
    assert report["rankers"]["sasrec"]["epochs"] == 1
    phases = {phase for phase, _, _ in reporter.lines}
    assert {"ranking with target", "fitting sasrec", "ranking with sasrec"} <= phases
    assert any(text.endswith("left") for _, _, text in reporter.lines)


def test_the_valid_split_has_other_users_and_histories(
    bundle: Bundle, small_dataset: Dataset
) -> None:
    evaluation = run_evaluation(bundle, small_dataset, split="valid", num_users=6)
    assert evaluation.report["split"] == "valid"
    assert evaluation.report["history"] == "train"
    train = small_dataset.histories("train")
    assert len(evaluation.users) == 6
    assert all((user.history == train[user.number]).all() for user in evaluation.users)


def test_evaluating_twice_gives_the_same_report(bundle: Bundle, small_dataset: Dataset) -> None:
    one, two = (
        run_evaluation(bundle, small_dataset, num_users=8, baselines=("item-knn",)).report
        for _ in range(2)
    )
    for report in (one, two):
        report.pop("rankers")  # holds seconds
    assert one == two


def test_kept_baselines_are_used_again_and_checked(
    tmp_path: Path, bundle: Bundle, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BaselineOptions(SASREC, tmp_path / "kept")

    def run() -> dict[str, object]:
        report = run_evaluation(
            bundle,
            small_dataset,
            num_users=5,
            baselines=("item-knn", "sasrec"),
            options=options,
        ).report
        results: dict[str, object] = report["results"]
        return results

    first = run()
    monkeypatch.setattr("specbeam.training.evaluation.fitted.choose_item_knn", None)
    monkeypatch.setattr("specbeam.training.sasrec.fitting.fit_sasrec", None)
    assert run() == first
    (tmp_path / "kept" / "item-knn.json").write_text('{"fingerprint": "another"}')
    with pytest.raises(DatasetError, match="other interactions"):
        run()


@pytest.mark.parametrize(
    ("baselines", "message"),
    [(["oracle"], "there is no baseline oracle"), (["popularity", "popularity"], "twice")],
)
def test_wrong_baselines_are_refused_before_any_work(
    bundle: Bundle,
    small_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    baselines: Sequence[str],
    message: str,
) -> None:
    monkeypatch.setattr(module, "BundleRanker", None)
    with pytest.raises(TrainingError, match=message):
        run_evaluation(bundle, small_dataset, baselines=baselines)


def test_saved_users_have_the_values_behind_the_means(
    tmp_path: Path, bundle: Bundle, small_dataset: Dataset
) -> None:
    evaluation = run_evaluation(bundle, small_dataset, num_users=9)
    save_users(evaluation, tmp_path / "deep" / "users.npz")
    with np.load(tmp_path / "deep" / "users.npz") as saved:
        assert saved["user_id"].tolist() == list(evaluation.user_ids)
        assert (saved["target/items"] == evaluation.rankings["target"]).all()
        mean = evaluation.report["results"]["popularity"]["all"]["recall@20"]["mean"]
        assert saved["popularity/all/recall@20"].mean() == pytest.approx(mean, abs=1e-6)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["users.npz"]


def test_a_plot_names_every_ranker_and_is_the_same_each_time(
    tmp_path: Path, bundle: Bundle, small_dataset: Dataset
) -> None:
    report = run_evaluation(bundle, small_dataset, num_users=9).report
    for name in ("one.svg", "two.svg", "one.png"):
        plot_evaluation(report, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    assert all(word in text for word in ("target", "popularity", "co-occurrence", "Recall@10"))
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(TrainingError, match=r"\.png or \.svg"):
        plot_evaluation(report, tmp_path / "one.html")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_report_entry_is_added_and_the_bundle_still_verifies(
    tmp_path: Path, bundle_copy: Bundle
) -> None:
    before = bundle_copy
    mode = before.path.stat().st_mode
    for value in (1, 2):
        add_to_report(before.path, "evaluation", {"users": value})
    after = load_bundle(before.path, verify=True)
    report = json.loads((after.path / "report.json").read_text())
    assert report == {"training": {"steps": 3}, "evaluation": {"users": 2}}
    assert after.manifest.fingerprints == before.manifest.fingerprints
    assert after.path.stat().st_mode == mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["random.bundle"]


def test_a_failed_report_leaves_the_bundle_as_it_was(
    tmp_path: Path, bundle_copy: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(new: Path, path: Path) -> None:
        raise OSError("no")

    monkeypatch.setattr("specbeam.bundle.reporting.put_in_place", refuse)
    with pytest.raises(OSError, match="no"):
        add_to_report(bundle_copy.path, "evaluation", {})
    load_bundle(bundle_copy.path, verify=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["random.bundle"]
    with pytest.raises(BundleError, match="is not a bundle"):
        add_to_report(bundle_copy.target_dir, "evaluation", {})


def test_a_stage_says_how_long_it_will_still_take() -> None:
    seconds = iter([0.0, 30.0, 60.0])
    reporter = RecordingReporter()
    stage = Stage(reporter, "ranking", lambda: next(seconds))
    stage.update(0.25, "5 of 20 users")
    stage.update(1.0)
    assert reporter.lines == [
        ("ranking", 0.0, ""),
        ("ranking", 0.25, "5 of 20 users, 1:30 left"),
        ("ranking", 1.0, ""),
    ]
