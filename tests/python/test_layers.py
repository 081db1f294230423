"""The check of the core's layers finds what it is there to find."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_layers.py"


@pytest.fixture
def check(tmp_path, capsys):
    """Return a function that checks files of the core, given by their place, and returns what was found."""
    main = runpy.run_path(str(SCRIPT))["main"]

    def run(**files):
        for place, text in {"lib": "pub mod grid;\npub mod jobs;\n", **files}.items():
            path = tmp_path / "rust" / f"{place.replace('__', '/')}.rs"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        code = main(tmp_path)
        found = capsys.readouterr().err.splitlines()
        assert code == bool(found)
        return found

    return run


def test_an_arrow_to_a_higher_layer_is_found(check):
    """By an import, by a path in the code, and however deep the braces are."""
    found = check(
        grid__mod="mod a;\nmod b;\n",
        grid__a="use crate::{Result, jobs::{ingest::{self, Mode}}};\n",
        grid__b="fn f() { crate::jobs::publish() }\n",
        jobs__mod="pub mod ingest;\nuse crate::grid::a;\n",
        jobs__ingest="pub struct Mode;\n",
    )
    assert found == [
        "rust: grid::a uses jobs::ingest, which lies above it",
        "rust: grid::b uses jobs, which lies above it",
    ]


def test_two_files_that_use_each_other_are_found(check):
    """Also where one of them asks the module that passes the other's name on."""
    found = check(
        jobs__mod="mod one;\nmod two;\nuse two::Two;\npub use one::One;\n",
        jobs__one="use super::Two;\npub struct One;\n",
        jobs__two="use crate::jobs::One;\npub struct Two;\n",
    )
    assert found == ["rust: jobs::one and jobs::two use each other"]


def test_tests_comments_and_texts_do_not_count(check):
    """A test may use anything, and what only looks like a path is none."""
    text = (
        '// use crate::jobs::a;\nconst A: char = \'"\';\nconst B: &str = "use crate::jobs::b; // ";\n'
        "#[cfg(test)]\nmod of_its_own;\n#[cfg(test)]\nmod tests {\n    use crate::jobs::c;\n    fn f() {}\n}\n"
    )
    assert check(grid__mod=text, grid__of_its_own="use crate::jobs::d;\n", jobs__mod="") == []


def test_a_module_without_a_layer_is_found(check):
    """A new module at the top has to be given its place."""
    assert check(attic__mod="") == ["rust: attic is in no layer of scripts/check_layers.py"]
