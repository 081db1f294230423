"""Any order of ingests, changes of the sources, kills and other clients' commits, against a model."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import refreeze
from archives import ROWS, Archive, Model
from refreeze.exceptions import AlreadyExistsError, ConflictError, MismatchError
from scenarios import local_repository, start_attempt
from stores_for_tests import open_dataset

SMALL: dict[str, Any] = {"max_refs_per_commit": 6, "refs_per_manifest": 4}
"""Several commits and manifests each time."""
NOTHING = slice(0, 0)


class Piece:
    """An archive's place in the target."""

    def __init__(self, archive: Archive, start: int) -> None:
        self.archive, self.start, self.days = archive, start, archive.days


class Repository(RuleBasedStateMachine):
    """A repository and the archives that it is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.target = self.folder / "target"
        self.archives = 0
        self.pieces: list[Piece] = []
        self.model = Model({}, np.zeros(0))
        self.others: dict[str, int] = {}
        self.runs_left = 0
        """Runs of which a kill may have left a staging branch."""

    def teardown(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder)

    # What is done, with or without a kill in the middle.

    def archive(self, first_day: int, days: int, *, own_units: bool = True) -> Archive:
        self.archives += 1
        folder = self.folder / f"archive{self.archives}"
        return Archive.write(folder, first_day, days, own_units=own_units)

    def carry_out(
        self,
        kill: int | None,
        source: Any,
        model: Model,
        *,
        changed: slice = NOTHING,
        verb: str = "ingest",
        **options: Any,
    ) -> Any:
        """Ingest or sync, maybe after an attempt that is killed after so many commits; the model is the result.

        After a kill readers see what they saw before, but for the days that have `changed` in the
        source: these cannot be read before they are referenced anew.
        """
        limits = SMALL if verb == "ingest" else {"max_refs_per_commit": 6}
        if kill is not None:
            given = [str(one) for one in source] if isinstance(source, list) else str(source)
            at = ("list", kill)
            process = start_attempt(given, str(self.target), limits | options, at, None, verb)
            process.join()
            assert process.exitcode in {-signal.SIGKILL, 0}
            if process.exitcode == 0:
                # It was done before so many commits.
                self.model = model
                return None
            self.runs_left = 1
            self.agree_but(changed)
            self.runs_left = 0
        report = getattr(refreeze, verb)(source, self.target, **limits, **options)
        self.model = model
        return report

    def see(self) -> Any:
        return open_dataset(local_repository(self.target).readonly_session("main").store)

    @invariant()
    def agree(self) -> None:
        """Readers see the model, all of it."""
        self.agree_but(NOTHING)

    def agree_but(self, changed: slice) -> None:
        """Readers see the model, and nobody a branch that is not a run's; some days are not read."""
        branches = local_repository(self.target).list_branches() if self.target.exists() else set()
        staged = branches - {"main"}
        assert all(name.startswith("refreeze/") for name in staged)
        assert len(staged) <= self.runs_left
        if not self.model.values:
            # Nothing has been published yet, whatever a killed attempt has staged.
            if self.target.exists():
                store = local_repository(self.target).readonly_session("main").store
                with pytest.raises(zarr.errors.GroupNotFoundError):
                    zarr.open_group(store, mode="r")
            return
        found = self.see()
        assert set(found.variables) == set(self.model.values) | {"time"}
        for name, values in self.model.values.items():
            # The others have no days.
            has_days = name not in {"mask", "height"}
            parts = [slice(changed.start), slice(changed.stop, None)] if has_days else [slice(None)]
            assert found[name].shape == values.shape
            for part in parts:
                np.testing.assert_array_equal(found[name][part].values, values[part], err_msg=name)
        np.testing.assert_array_equal(found["time"].values.astype("M8[s]"), self.model.times)
        root = zarr.open_group(
            local_repository(self.target).readonly_session("main").store, mode="r"
        )
        assert {name: int(root[f"others/{name}"].attrs["n"]) for name in self.others} == self.others  # type: ignore[call-overload]

    # The rules.

    @initialize(days=st.integers(1, 14), kill=st.none() | st.integers(1, 3))
    def create(self, days: int, kill: int | None) -> None:
        archive = self.archive(0, days, own_units=False)
        self.carry_out(kill, archive.folder, archive.shown())
        self.pieces = [Piece(archive, 0)]
        with pytest.raises(AlreadyExistsError):
            refreeze.ingest(self.archive(0, 1).folder, self.target)

    @rule(days=st.integers(0, 9), kill=st.none() | st.integers(1, 3), twice=st.booleans())
    def append(self, days: int, kill: int | None, twice: bool) -> None:
        last = self.pieces[-1]
        before = last.archive.days
        if days:
            last.archive.grow(days)
        shown = last.archive.shown()
        added = Model(
            {name: array[before:] for name, array in shown.values.items()}, shown.times[before:]
        )
        # A ragged last chunk is written anew when the archive grows.
        ragged = slice(last.start + before // ROWS * ROWS, last.start + before)
        report = self.carry_out(
            kill, last.archive.folder, self.model.followed_by(added), changed=ragged,
            mode="append", append_dim="time",
        )  # fmt: skip
        last.days = last.archive.days
        if report is not None and kill is None:
            assert (report.commits > 0) == (days > 0)
        if twice:
            again = refreeze.ingest(
                last.archive.folder, self.target, mode="append", append_dim="time"
            )
            assert (again.commits, again.references_written) == (0, 0)

    @rule(days=st.integers(1, 9), kill=st.none() | st.integers(1, 3))
    def continue_with_another(self, days: int, kill: int | None) -> None:
        length = len(self.model.times)
        another = self.archive(length, days)
        options = {"mode": "append", "concat_dim": "time"}
        if length % ROWS:
            with pytest.raises(MismatchError):
                refreeze.ingest(another.folder, self.target, **options)
            return
        self.carry_out(kill, another.folder, self.model.followed_by(another.shown()), **options)
        self.pieces.append(Piece(another, length))

    @rule(lengths=st.lists(st.integers(1, 2), max_size=2), last=st.integers(1, 9),
          kill=st.none() | st.integers(1, 3))  # fmt: skip
    def overwrite(self, lengths: list[int], last: int, kill: int | None) -> None:
        archives: list[Archive] = []
        for days in [*(length * ROWS for length in lengths), last]:
            archives.append(self.archive(sum(archive.days for archive in archives), days))
        model, start = archives[0].shown(), 0
        for archive in archives[1:]:
            model = model.followed_by(archive.shown())
        source: Any = [archive.folder for archive in archives]
        options = {"concat_dim": "time"} if len(archives) > 1 else {}
        # Everything at the root is replaced, what others have put there too.
        others, self.others = self.others, {}
        if kill is not None:
            self.others = others
        report = self.carry_out(
            kill, source if len(archives) > 1 else source[0], model, mode="overwrite", **options
        )
        self.others = {}
        if report is not None:
            assert report.previous_snapshot_id is not None
        self.pieces = []
        for archive in archives:
            self.pieces.append(Piece(archive, start))
            start += archive.days

    @rule(days=st.integers(1, 9), kill=st.none() | st.integers(1, 3))
    def merge(self, days: int, kill: int | None) -> None:
        archive, beside = self.archive(0, days), self.folder / f"beside{self.archives}"
        height = np.arange(1, 5)
        root = zarr.open_group(beside, mode="w", zarr_format=3)
        root.create_array("height", data=height, chunks=(2,), dimension_names=("x",))
        model = archive.shown()
        model = Model(model.values | {"height": height}, model.times)
        others, self.others = self.others, {}
        if kill is not None:
            self.others = others
        self.carry_out(kill, [archive.folder, beside], model, mode="overwrite")
        self.others = {}
        self.pieces = [Piece(archive, 0)]

    @precondition(lambda self: any(p.days == p.archive.days for p in self.pieces))
    @rule(data=st.data(), kill=st.none() | st.integers(1, 2))
    def update(self, data: st.DataObject, kill: int | None) -> None:
        piece = data.draw(
            st.sampled_from([p for p in self.pieces if p.days == p.archive.days]), label="piece"
        )
        first = data.draw(st.integers(0, (piece.days - 1) // ROWS), label="chunk") * ROWS
        stop = min(first + ROWS * data.draw(st.integers(1, 2), label="chunks"), piece.days)
        for change in data.draw(st.lists(st.sampled_from(["rewrite", "delete"]), max_size=3)):
            name = data.draw(st.sampled_from(["air", "soil", "sea"]))
            day = data.draw(st.integers(first, stop - 1), label="day")
            getattr(piece.archive, change)(name, day)
        rows = slice(piece.start + first, piece.start + stop)
        model = self.model.with_rows(rows, piece.archive.shown(), first)
        self.carry_out(
            kill, piece.archive.folder, model, changed=rows, mode="update",
            region={"time": slice(first, stop)},
        )  # fmt: skip

    @precondition(lambda self: any(p.days == p.archive.days for p in self.pieces))
    @rule(data=st.data(), days=st.integers(0, 7), kill=st.none() | st.integers(1, 3))
    def sync(self, data: st.DataObject, days: int, kill: int | None) -> None:
        """One source, whatever has become of it: rewritten and vanished chunks anywhere, and more days at the end."""
        piece = data.draw(
            st.sampled_from([p for p in self.pieces if p.days == p.archive.days]), label="piece"
        )
        for change in data.draw(st.lists(st.sampled_from(["rewrite", "delete"]), max_size=4)):
            name = data.draw(st.sampled_from(["air", "soil", "sea"]))
            day = data.draw(st.integers(0, piece.days - 1), label="day")
            getattr(piece.archive, change)(name, day)
        if piece is self.pieces[-1] and days:
            piece.archive.grow(days)
        shown, known = piece.archive.shown(), piece.days
        rows = slice(piece.start, piece.start + known)
        model = self.model.with_rows(rows, shown, 0)
        if piece.start and not np.array_equal(self.model.values["mask"], shown.values["mask"]):
            # It is another source's, and stays so.
            model.values["mask"] = self.model.values["mask"]
        grown = Model({n: array[known:] for n, array in shown.values.items()}, shown.times[known:])
        self.carry_out(
            kill, piece.archive.folder, model.followed_by(grown), changed=rows, verb="sync"
        )
        piece.days = piece.archive.days
        again = refreeze.sync(piece.archive.folder, self.target)
        assert (again.snapshot_id, again.commits) == (None, 0)

    @precondition(lambda self: all(p.days == p.archive.days for p in self.pieces))
    @rule(sample=st.integers(0, 9))
    def verify(self, sample: int) -> None:
        """All sources together say what the target says; of arrays that each of them has, one is referenced."""
        report = refreeze.verify(
            [piece.archive.folder for piece in self.pieces],
            self.target,
            sample=sample,
            skip_variables=["mask", "height"],
        )
        assert report.equal, report.examples

    @rule(number=st.integers(0, 100))
    def another_client_commits(self, number: int) -> None:
        name = f"other{len(self.others)}"
        session = local_repository(self.target).writable_session("main")
        zarr.create_group(session.store, path=f"others/{name}", attributes={"n": number})
        session.commit("theirs")
        self.others[name] = number

    @rule(days=st.integers(1, 9))
    def publish_on_a_branch_that_moved(self, days: int) -> None:
        last = self.pieces[-1]
        before = last.archive.days
        last.archive.grow(days)
        refreeze.ingest(
            last.archive.folder, self.target, mode="append", append_dim="time", no_publish=True,
            **SMALL,
        )  # fmt: skip
        self.another_client_commits(7)
        with pytest.raises(ConflictError):
            refreeze.publish(self.target)
        refreeze.publish(self.target, rebase=True)
        shown = last.archive.shown()
        added = Model(
            {name: array[before:] for name, array in shown.values.items()}, shown.times[before:]
        )
        self.model = self.model.followed_by(added)
        last.days = last.archive.days


# Every step reads and writes a repository: a failure is shown as it was found, not made smaller.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
Repository.TestCase.settings = settings(max_examples=8, stateful_step_count=8, phases=PHASES)
TestRepository: Callable[[], None] = pytest.mark.timeout(1_200)(Repository.TestCase)
