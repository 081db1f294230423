"""An ingest through files: begun by one command, done in parts by others, committed by a last one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import icechunk
import pytest
import zarr

import refreeze
from crews_for_tests import SMALL, log_chunks, references, store_of
from refreeze.exceptions import IncompleteError, MismatchError
from refreeze.stores.web_store import Probing
from refreeze.verbs.batch_queue import begin, commit, work
from refreeze.work import WorkPlan, carry_out


def test_parts_in_any_order_and_again_make_what_one_process_makes(
    tmp_path: Path, many_chunks: Path, by_one_process: Path
) -> None:
    """Parts may run in any order, twice; the result has the references of a single process."""
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    plan, report = begin(str(many_chunks), str(target), run, **SMALL)
    assert plan is not None
    assert not report.published
    assert len(plan.units) > 8
    for part in ("2/3", "0/3", "2/3", "1/3"):
        work(run, part)
    assert [
        s.message
        for s in icechunk.Repository.open(icechunk.local_filesystem_storage(str(target))).ancestry(
            branch="main"
        )
    ] == ["Repository initialized"]
    done = commit(run)
    assert done.published
    assert references(target) == references(by_one_process)
    assert log_chunks(target) == log_chunks(by_one_process)
    assert not list((target / "refreeze").rglob("*.json"))
    root, truth = (zarr.open_group(place, mode="r") for place in (many_chunks, many_chunks))
    assert root["air"].shape == truth["air"].shape
    # Again and again, also when it is over.
    assert work(run, "0/3")["over"]
    assert commit(run).already_published


def test_missing_parts_are_named_and_what_is_there_is_kept(
    tmp_path: Path, many_chunks: Path
) -> None:
    """An early commit fails, publishes nothing and loses nothing."""
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    begin(str(many_chunks), str(target), run, **SMALL)
    work(run, "0/2")
    with pytest.raises(IncompleteError, match="air"):
        commit(run)
    assert refreeze.status(str(target)).runs[0].state == "unfinished"
    work(run, "1/2")
    report = commit(run)
    assert report.published
    assert report.references_written == 82


def test_what_began_with_files_is_finished_in_one_process(
    tmp_path: Path, many_chunks: Path, by_one_process: Path
) -> None:
    """The same ingest in one process takes the results that are there and lists the rest."""
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    begin(str(many_chunks), str(target), run, **SMALL)
    work(run, "1/2")
    report = refreeze.ingest(str(many_chunks), str(target), **SMALL)
    assert report.published
    assert references(target) == references(by_one_process)


def test_an_append_by_parts(tmp_path: Path) -> None:
    """Modes that change arrays which are there go through files too."""
    many_chunks = store_of(tmp_path, 20)
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    refreeze.ingest(str(many_chunks), str(target), **SMALL)
    root = zarr.open_group(many_chunks, mode="a")
    for name in ("air", "sparse"):
        array = root[name]
        array.resize((40, *array.shape[1:]))
        array[20:] = 5
    begin(str(many_chunks), str(target), run, mode="append", append_dim="time", **SMALL)
    work(run, "0/1")
    report = commit(run)
    assert (report.published, report.added) == (True, 60)
    whole = tmp_path / "whole.icechunk"
    refreeze.ingest(str(many_chunks), str(whole))
    assert references(target) == references(whole)


def test_an_update_by_parts(tmp_path: Path, many_chunks: Path) -> None:
    """Units that would replace the same manifest do not undo each other."""
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    # One manifest over all that several units of the update touch.
    refreeze.ingest(str(many_chunks), str(target), refs_per_manifest=100)
    array = zarr.open_group(many_chunks, mode="a")["sparse"]
    array[5:30] = 8
    begin(str(many_chunks), str(target), run, mode="update", region={"time": slice(0, 40)}, **SMALL)
    work(run, "0/2")
    work(run, "1/2")
    report = commit(run)
    assert report.published
    whole = tmp_path / "whole.icechunk"
    refreeze.ingest(str(many_chunks), str(whole))
    assert references(target) == references(whole)


def test_a_unit_done_twice_leaves_one_result_and_no_files(
    tmp_path: Path, many_chunks: Path
) -> None:
    """Whoever comes second gets the first one's result."""
    target, run = tmp_path / "t.icechunk", tmp_path / "run.json"
    plan, _ = begin(str(many_chunks), str(target), run, **SMALL)
    assert plan is not None
    first = carry_out(plan, 0)
    before = sorted((target / "manifests").iterdir())
    assert carry_out(plan.to_json(), plan.units[0]) == first
    assert sorted((target / "manifests").iterdir()) == before


def test_another_version_is_refused_with_both_named(tmp_path: Path, many_chunks: Path) -> None:
    """A worker does not do what another version has planned."""
    run = tmp_path / "run.json"
    begin(str(many_chunks), str(tmp_path / "t.icechunk"), run, **SMALL)
    text = run.read_text().replace(f'"refreeze": "{refreeze.__version__}"', '"refreeze": "9.8.7"')
    run.write_text(text)
    with pytest.raises(MismatchError, match=rf"9\.8\.7.*{refreeze.__version__}"):
        work(run, "0/1")


def test_no_secret_is_in_plan_or_results() -> None:
    """Of settings only an allow-list is stored."""
    from refreeze.distributed.choice import places_of

    options = {"secret_access_key": "hushhush", "region": "eu", "endpoint": "http://u:hushhush@h"}
    places = places_of(
        ["s3://b/x"],
        "s3://b/t",
        source_options=options,
        target_options=options,
        memory=1 << 28,
        concurrency=8,
        probing=Probing(),
    )
    core = json.dumps({"run_id": "r", "refreeze": refreeze.__version__})
    text = places.plan(core, 2).to_json()
    assert "hushhush" not in text + repr(places)
    assert WorkPlan.from_json(text).source_options == {"region": "eu"}
    assert places.secrets.source["secret_access_key"] == "hushhush"


def test_the_commands(tmp_path: Path, many_chunks: Path) -> None:
    """Plan --output, work and commit, with their exit codes."""
    target, run = str(tmp_path / "t.icechunk"), str(tmp_path / "run.json")

    def refreeze_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "refreeze", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    sizes = ("--max-refs-per-commit", "10", "--refs-per-manifest", "5")
    begun = refreeze_command("plan", str(many_chunks), target, "--output", run, *sizes)
    assert begun.returncode == 0, begun.stderr
    assert "first commit is made" in begun.stdout
    early = refreeze_command("commit", run, "--json")
    assert early.returncode == 1
    assert json.loads(early.stdout)["error"]["type"] == "IncompleteError"
    assert refreeze_command("work", run, "--part", "3/3").returncode == 2
    for part in ("0/2", "1/2"):
        done = refreeze_command("work", run, "--part", part)
        assert done.returncode == 0, done.stderr
    committed = refreeze_command("commit", run, "--json")
    assert committed.returncode == 0, committed.stderr
    assert json.loads(committed.stdout)["published"]
