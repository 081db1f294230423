"""Messages stay readable whatever a store or a user calls things: cut in the middle, control characters as escapes."""

import json
import shutil

import pytest

import refreeze
from refreeze.exceptions import MismatchError, RefreezeError
from scenarios import cli, edit

MEGABYTE = 1 << 20
LONGEST_LINE = 1_500
ODD = "one\ntwo\x1b[31mred\r\u202e\x00"


def assert_readable(text):
    """Assert that what was said is a few lines without anything that a terminal obeys."""
    lines = text.splitlines()
    assert 1 <= len(lines) <= 3, lines
    assert all(len(line) <= LONGEST_LINE for line in lines), [len(line) for line in lines]
    assert all(character.isprintable() for line in lines for character in line), lines


def fail(capsys, *arguments):
    said = cli(capsys, *arguments, "--json")
    assert said.code in {1, 2}
    assert_readable(said.err)
    error = said.document["error"]
    assert error["type"] != "InternalError"
    assert len(error["message"]) <= LONGEST_LINE
    assert "\n" not in error["message"]
    assert "\x1b" not in error["message"]
    return error["message"]


@pytest.mark.parametrize("name", ["x" * MEGABYTE, "x/" * 1_000 + "x", "a b " * (MEGABYTE // 4)])
@pytest.mark.parametrize("option", ["--array", "--group", "--mode"])
def test_long_options(capsys, source, tmp_path, option, name):
    """A name of a megabyte, or of a thousand levels, given by the user."""
    fail(capsys, "ingest", source, tmp_path / "repo", option, name)


@pytest.mark.parametrize("option", ["--array", "--group", "--mode", "--region", "--append-dim"])
def test_control_characters_in_options(capsys, source, tmp_path, option):
    """They are shown as escapes, and lone surrogates too, as arguments that are no text have them."""
    for name in (ODD, "a\udc80b"):
        fail(capsys, "ingest", source, tmp_path / "repo", option, name)


@pytest.mark.parametrize("url", ["s3://" + "b" * MEGABYTE, "/" + "p" * MEGABYTE, "x" * 200 + "://"])
def test_long_places(capsys, source, tmp_path, url):
    """A place of a megabyte, as source and as target."""
    fail(capsys, "ingest", url, tmp_path / "repo", "--source-option", "skip_signature=maybe")
    fail(capsys, "ingest", source, url, "--target-option", "skip_signature=maybe")


def test_an_unknown_option_of_a_megabyte(capsys, source, tmp_path):
    """What the command line does not know is cut too."""
    fail(capsys, "ingest", source, tmp_path / "repo", "--" + "x" * MEGABYTE)


@pytest.mark.parametrize("separator", ["s" * MEGABYTE, ODD])
def test_separators(capsys, source, tmp_path, separator):
    """A separator that no store has, in a document."""
    encoding = {"name": "default", "configuration": {"separator": separator}}
    edit(source / "air/zarr.json", chunk_key_encoding=encoding)
    assert "air" in fail(capsys, "ingest", source, tmp_path / "repo")


@pytest.mark.parametrize("name", [ODD.replace("\x00", ""), "x" * 250])
def test_names_in_a_store(capsys, source, tmp_path, name):
    """An array's own name, in an error about it and in what is printed on success."""
    shutil.copytree(source / "air", source / name)
    edit(source / name / "zarr.json", data_type="no-such-type")
    message = fail(capsys, "ingest", source, tmp_path / "repo")
    assert name[:3] in message
    shutil.rmtree(source / name)
    shutil.copytree(source / "air", source / name)
    said = cli(capsys, "plan", source)
    assert said.code == 0, said
    assert "\x1b" not in said.out + said.err


def test_strays_with_odd_names(capsys, source, tmp_path):
    """A warning gives an example of what was ignored."""
    (source / "air/c" / ODD.replace("\x00", "")).write_text("stray")
    said = cli(capsys, "ingest", source, tmp_path / "repo", "--json")
    assert said.code == 0, said
    assert_readable(said.err)
    (warning,) = said.document["warnings"]
    assert "one\\ntwo\\x1b[31mred" in warning
    json.dumps(warning)


def test_errors_of_the_package_are_readable_too():
    """Whoever raises one: message, hint and text."""
    error = MismatchError("a" * MEGABYTE + ODD, "b" * MEGABYTE)
    assert len(str(error)) < 2 * LONGEST_LINE
    assert "\\x1b" in error.message
    assert error.args == (error.message,)
    again = MismatchError(error.message, error.hint)
    assert (again.message, again.hint) == (error.message, error.hint)


def test_python_users_get_them_too(source, tmp_path):
    """Not only the command line cuts."""
    with pytest.raises(RefreezeError) as raised:
        refreeze.ingest(source, tmp_path / "repo", arrays=["x" * MEGABYTE])
    assert len(str(raised.value)) < 2 * LONGEST_LINE
