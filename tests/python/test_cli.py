"""The command line: exit codes, what goes to which stream, progress, printed lines, the demo."""

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zarr

import refreeze
from refreeze.cli.progress import LINE_INTERVAL, ProgressDisplay
from refreeze.cli.snippet import opening_lines
from scenarios import (
    VALUES,
    cli,
    command,
    flags,
    group,
    local_repository,
    run,
    s3_repository,
    upload,
)
from test_public_api import REPORT_KEYS


def test_success(source, target):
    """As a process: the result on stdout, nothing on stderr without a terminal, exit 0."""
    outcome = run("ingest", source, target)
    assert outcome.code == 0
    assert outcome.err == ""
    first, second = outcome.out.splitlines()[:2]
    assert first.startswith(f"Ingested {source} into {target}, branch main: 3 arrays, 5 references")
    assert re.fullmatch(r"Snapshot [0-9A-Z]{20}\.", second)
    assert (group(local_repository(target))["air"][:] == VALUES).all()


def test_json(source, target):
    """The report is the only thing on stdout, with all keys of the contract."""
    outcome = run("ingest", source, target, "--json")
    assert outcome.code == 0
    assert outcome.out.count("\n") == 1
    assert set(outcome.document) >= set(REPORT_KEYS)
    assert outcome.document["references_written"] == 5
    assert outcome.err == ""


def test_json_of_an_error(source, target, capsys):
    """Type, message and hint on stdout; the same for people on stderr."""
    outcome = cli(capsys, "ingest", source.with_name("nope"), target, "--json")
    assert outcome.code == 1
    error = outcome.document["error"]
    assert set(error) == {"type", "message", "hint"}
    assert error["type"] == "SourceNotFoundError"
    assert error["message"] in outcome.err
    assert error["hint"] in outcome.err
    outcome = cli(capsys, "ingest", "--json", "--nope")
    assert outcome.code == 2
    assert outcome.document["error"]["type"] == "UsageError"


@pytest.mark.parametrize("arguments", [("nope", "x"), ("air.zarr", "documents")])
def test_errors_are_short(source, tmp_path, monkeypatch, capsys, arguments):
    """One to three lines, error and hint, no period at the end, no traceback, exit 1."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/thesis").write_text("x")
    outcome = cli(capsys, "ingest", *arguments)
    assert outcome.code == 1
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert not any(line.endswith(".") for line in lines)


def test_warnings_and_quiet(source, target, capsys):
    """Warnings go to stderr, also with --json; --quiet keeps it empty unless something fails."""
    (source / "air/README").write_text("x")
    outcome = cli(capsys, "ingest", source, target, "--json", "--target-group", "a")
    assert outcome.err.startswith("warning: array /a/air: 1 key below it")
    assert outcome.document["warnings"][0] in outcome.err
    outcome = cli(capsys, "ingest", source, target, "--quiet", "--target-group", "b")
    assert (outcome.code, outcome.err) == (0, "")
    outcome = run("ingest", source, target, "-q", "--target-group", "b")
    assert (outcome.code, outcome.err) == (0, "")
    outcome = cli(capsys, "ingest", source, target, "-q", "--target-group", "b", "--skip", "air")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")


def test_version(capsys):
    """One line, on its own and after a verb."""
    for arguments in (("--version",), ("ingest", "--version"), ("demo", "--version")):
        outcome = cli(capsys, *arguments)
        assert (outcome.code, outcome.out) == (0, f"refreeze {refreeze.__version__}\n")


@pytest.mark.parametrize("verb", [(), ("ingest",), ("demo",)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(capsys, verb, flag):
    """Everywhere, with an example."""
    outcome = cli(capsys, *verb, flag)
    assert outcome.code == 0
    assert "Example: refreeze " in outcome.out
    assert outcome.err == ""


def test_the_installed_command(source, target):
    """`refreeze` is `python -m refreeze`."""
    script = shutil.which("refreeze", path=os.path.dirname(sys.executable))  # noqa: PTH120
    assert script is not None
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run("--version").out


def test_options_do_what_they_say(source, target, capsys):
    """The options of the command line reach the ingest."""
    outcome = cli(
        capsys,
        *("ingest", source, target, "--json", "--group", "/", "--target-group", "a/b"),
        *("--array", "air", "--array", "ti*", "--load", "none", "--branch", "other"),
        *("--max-refs-per-commit", 1, "--refs-per-manifest", 1, "--message", "ours"),
        *("--mode", "create", "--empty-chunks", "error", "--log-level", "error"),
    )
    assert outcome.code == 0, outcome.err
    report = outcome.document
    assert [array["path"] for array in report["arrays"]] == ["/a/b/air", "/a/b/time"]
    assert not any(array["loaded"] for array in report["arrays"])
    assert report["references_written"] == 4
    assert report["branch"] == "other"
    history = list(local_repository(target).ancestry(branch="other"))
    assert [snapshot.message for snapshot in history[: report["commits"]]] == ["ours"] * report[
        "commits"
    ]


def test_an_internal_error_is_two_lines(source, target, capsys, monkeypatch):
    """Whatever happens, a user sees no traceback; --log-level debug shows it to those who ask."""

    def broken(*_arguments):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("refreeze.planning.dispatch.read_metadata", broken)
    outcome = cli(capsys, "ingest", source, target)
    assert outcome.code == 1
    assert outcome.err.startswith("error: internal error: RuntimeError: unforeseen\nhint: ")
    assert "Traceback" not in outcome.err


# -- the printed lines ----------------------------------------------------------------------------


def printed_code(outcome):
    return outcome.out.partition("Open it:\n\n")[2]


@pytest.mark.parametrize("group_option", [(), ("--target-group", "deep/er")])
def test_the_printed_lines_run(source, target, capsys, group_option):
    """They open the result as xarray opens the source."""
    import xarray as xr

    outcome = cli(capsys, "ingest", source, target, *group_option)
    names = {}
    exec(printed_code(outcome), names)  # noqa: S102 what is printed is meant to be run
    xr.testing.assert_identical(
        names["ds"].load(), xr.open_zarr(source, consolidated=False, chunks=None).load()
    )


def test_the_printed_lines_run_for_a_bucket(s3_bucket, source, capsys, monkeypatch):
    """With credentials in the environment; the lines hold no secret, the endpoint they do."""
    server, bucket = s3_bucket
    url = upload(server, bucket, source, "air.zarr")
    outcome = cli(
        capsys,
        *("ingest", url, f"s3://{bucket}/repo"),
        *flags("--source-option", server.options),
        *flags("--target-option", server.options),
    )
    assert outcome.code == 0, outcome.err
    code = printed_code(outcome)
    assert server.access_key_id not in code
    assert server.secret_access_key not in code
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_access_key)
    names = {}
    exec(code, names)  # noqa: S102 as above
    assert (names["ds"]["air"].to_numpy() == VALUES).all()


def test_a_bucket_by_the_environment(s3_bucket, source):
    """All settings from AWS_*; what is printed and said holds none of them."""
    server, bucket = s3_bucket
    upload(server, bucket, source, "air.zarr")
    outcome = run(
        *("ingest", f"s3://{bucket}/air.zarr", f"s3://{bucket}/repo", "--log-level", "debug"),
        env=server.environment,
    )
    assert outcome.code == 0, outcome.err
    for secret in (server.access_key_id, server.secret_access_key):
        assert secret not in outcome.out + outcome.err
    assert (group(s3_repository(server, bucket, "repo"))["air"][:] == VALUES).all()


def test_secrets_in_wrong_places(source, target, capsys):
    """An option that is malformed, or a URL with credentials, is not repeated in the error."""
    for arguments in (
        ("ingest", "s3://AKIAKEY:HUSHHUSH@bucket/x", target),
        ("ingest", source, "s3://AKIAKEY:HUSHHUSH@bucket/x"),
        ("ingest", "https://user:HUSHHUSH@host/x", target),
        ("ingest", "s3://b/x", target, "--source-option", "HUSHHUSH"),
        ("ingest", "s3://b/x", target, "--source-option", "secret_key_access=HUSHHUSH"),
        ("ingest", "s3://b/x", target, "--source-option", "secret_access_key=HUSHHUSH"),
        ("ingest", "s3://b/x", target, "--source-option", "skip_signature=HUSHHUSH"),
    ):
        outcome = cli(capsys, *arguments, "--json")
        assert outcome.code in {1, 2}
        if "skip_signature" not in str(arguments):  # the value of a flag is no secret
            assert "HUSHHUSH" not in outcome.out + outcome.err


def test_an_endpoint_with_a_password_is_printed_without(source, target):
    """Regression: the lines to open a result repeated the endpoint as it was given."""
    from dataclasses import replace

    report = replace(refreeze.ingest(source, target), target="s3://bucket/repo")
    code = opening_lines(report, target_options={"endpoint": "http://me:HUSHHUSH@host:9000/x"})
    assert "HUSHHUSH" not in code
    assert "'http://host:9000/x'" in code


# -- progress -------------------------------------------------------------------------------------

EVENT = {
    "stage": "list",
    "array": "/air",
    "chunks_possible": 10,
    "list_requests": 3,
    "keys_listed": 1234,
    "chunks_found": 5,
    "references_written": 4,
    "commits": 1,
}


def test_progress_without_a_terminal(monkeypatch):
    """A line every ten seconds, not more, and none when quiet."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert LINE_INTERVAL == 10
    for quiet in (False, True):
        stream = io.StringIO()
        with ProgressDisplay(stream, quiet=quiet) as display:
            for second in range(35):
                now[0] = float(second)
                display(EVENT)
            now[0] = 0.0
        lines = stream.getvalue().splitlines()
        assert len(lines) == (0 if quiet else 3), lines
        for line in lines:
            assert line == "listing: 3 requests, 1,234 keys, 4 references, 1 commits"


def test_progress_on_a_terminal(source, target, tmp_path):
    """A live bar with stage and figures while it runs; afterwards the screen is as it was."""
    root = zarr.open_group(tmp_path / "many.zarr", mode="w", zarr_format=3)
    root.create_array("x0", data=VALUES, chunks=(2, 4))
    for number in range(1, 60):
        shutil.copytree(tmp_path / "many.zarr/x0", tmp_path / f"many.zarr/x{number}")
    shown = terminal("ingest", tmp_path / "many.zarr", target, "--max-refs-per-commit", 1)
    bar = shown.partition("Ingested")[0]
    assert re.search(r"(listing|committing) .*\d+ requests, .*\d+ references", bar)
    assert "\x1b[?25l" in bar  # the cursor is hidden …
    assert bar.rstrip("\r\n").endswith(("\x1b[?25h", "\x1b[2K"))  # … and comes back, line erased
    assert "\x1b[?25h" in bar
    quiet = terminal("ingest", source, target, "--quiet", "--target-group", "g")
    assert quiet.startswith("Ingested")


def test_an_error_on_a_terminal(source, target):
    """The bar is gone when the error is shown."""
    (source / "air/c/1/0").write_bytes(b"")
    shown = terminal("ingest", source, target)
    assert "error: " in shown
    assert "Traceback" not in shown
    before = shown.partition("error: ")[0]
    if "\x1b[?25l" in before:
        assert "\x1b[?25h" in before


def terminal(*arguments):
    """Run a command on a terminal of its own, and return everything that it wrote."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            got = os.read(parent, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not got:
            break
        shown += got
    os.close(parent)
    process.wait(timeout=30)
    return shown.decode()


# -- the demo -------------------------------------------------------------------------------------


def test_demo(tmp_path):
    """It plans, ingests, verifies, appends and leaves a page; a second one there is an error.

    Icechunk's warning of local commits is not among what it says: nobody else commits here.
    """
    outcome = run("demo", tmp_path / "demo")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "   equal, " in outcome.out
    assert "--mode append" in outcome.out
    page = tmp_path / "demo/coverage.html"
    assert page.as_uri() in outcome.out
    assert "air_temperature" in page.read_text()
    assert "equals the store" in outcome.out
    assert "refreeze ingest" in outcome.out
    assert "refreeze.ingest(" in outcome.out
    assert (tmp_path / "demo/air.zarr/zarr.json").exists()
    assert "/air_temperature" in str(
        [array for array, _ in group(local_repository(tmp_path / "demo/air.icechunk")).arrays()]
    ).replace("'", "/")
    outcome = run("demo", tmp_path / "demo")
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {tmp_path / 'demo/air.zarr'} exists\nhint: ")


def test_demo_into_a_temporary_folder(capsys):
    """Without a folder it makes one, says where, and how to choose another."""
    outcome = cli(capsys, "demo")
    assert outcome.code == 0, outcome.err
    assert "refreeze demo DIR" in outcome.out
    folder = Path(re.search(r"All of it is in (\S+);", outcome.out)[1])
    assert (folder / "coverage.html").is_file()
    shutil.rmtree(folder)


def test_make_demo_runs_the_command():
    """`make demo` and `make demo DIR=…` are the verb, by the Makefile's own words."""
    make = shutil.which("make")
    assert make is not None
    for extra, words in (([], "-m refreeze demo"), (["DIR=x y"], '-m refreeze demo "x y"')):
        done = subprocess.run(
            [make, "--dry-run", "--assume-old", ".venv/.refreeze", "demo", *extra],
            capture_output=True,
            text=True,
            check=True,
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),  # noqa: PTH120
        )
        assert words in done.stdout


@pytest.mark.parametrize("missing", ["iris_sample_data", "xarray", "h5netcdf", "cftime"])
def test_demo_without_its_packages(capsys, monkeypatch, tmp_path, missing):
    """Each missing package is named, with the way to get it."""
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = cli(capsys, "demo", tmp_path / "demo")
    assert outcome.code == 1
    assert missing in outcome.err
    assert "refreeze[demo]" in outcome.err
    assert not (tmp_path / "demo").exists()


def test_demo_into_a_file(capsys, tmp_path):
    """A folder that cannot be made is an error, not an internal one."""
    (tmp_path / "file").write_text("x")
    outcome = cli(capsys, "demo", tmp_path / "file")
    assert outcome.code == 1
    assert "internal" not in outcome.err
    assert str(tmp_path / "file") in outcome.err
