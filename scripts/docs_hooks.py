"""What mkdocs makes of other files and of the code: options of verbs, Python names, changelog, decisions.

Responsible for pages that would otherwise say a second time what is said elsewhere. What is written by
hand is in `docs/`; how the site looks is `mkdocs.yml`'s business.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COPIED = {
    "architecture.md": "ARCHITECTURE.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages that are files of the repository."""
OPTIONS = "<!-- options -->"
"""Where a verb's page shows its options."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the folders of the navigation."""
    verbs = [{name: f"verbs/{name}.md"} for name in commands()]
    decisions = sorted(path.name for path in (DOCS / "decisions").glob("*.md"))
    named = (ROOT / "mkdocs.yml").read_text()
    others = [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))]
    places = ("verbs/", "decisions/", "reference/")
    rest = [page for page in others if page not in named and not page.startswith(places)]
    config.nav = _filled(
        config.nav,
        {
            "verbs/": verbs,
            "decisions/": [f"decisions/{name}" for name in decisions],
            "background/": rest,
        },
    )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made; a verb about which nothing was written gets its options."""
    made = {page: (ROOT / path).read_text() for page, path in COPIED.items()}
    for name, command in commands().items():
        if files.get_file_from_path(f"verbs/{name}.md") is None:
            made[f"verbs/{name}.md"] = f"# refreeze {name}\n\n{_help(command)}\n\n{OPTIONS}\n"
    made["reference/cli.md"] = command_line()
    made["reference/python.md"] = python_names()
    made["reference/exceptions.md"] = exceptions()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 mkdocs' names
    """Show the options of a verb on its page; marks of code blocks are not for readers."""
    markdown = _relinked(re.sub(r"<!-- not run: .*?-->\n", "", markdown), page.file.src_uri)
    folder, _, name = page.file.src_uri.removesuffix(".md").rpartition("/")
    if folder != "verbs":
        return markdown
    if OPTIONS not in markdown:
        raise ValueError(f"{page.file.src_uri} has no {OPTIONS}")
    return markdown.replace(OPTIONS, options(name, commands()[name]))


def commands() -> dict[str, Any]:
    """Return the verbs of the command line by name."""
    from refreeze.cli.app import app

    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = group.commands
    return found


def command_line() -> str:
    """Return a page with all verbs and their options."""
    about = (
        "Exit codes: 0 done, 1 the job failed or found differences, 2 wrong usage, 130 and 143 "
        "interrupted. With `--json` stdout is one JSON document, also of an error. Names of options "
        "can be written in full only.\n"
    )
    parts = ["# Command line\n", about]
    for name, command in commands().items():
        parts += [f"## refreeze {name}\n", f"{_help(command)}\n", options(name, command)]
    return "\n".join(parts)


def options(name: str, command: Any) -> str:
    """Return the usage of a verb, and a table of its arguments and options."""
    context = typer.Context(command, info_name=f"refreeze {name}")
    usage = command.get_usage(context).partition(": ")[2]
    rows = ["| | |", "|---|---|"]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:
            continue
        what, text = (re.sub(r"\s+", " ", part).replace("|", r"\|") for part in record)
        rows.append(f"| `{what}` | {text} |")
    example = (command.epilog or "").removeprefix("Example: ")
    shown = f"Example: `{example}`\n" if example else ""
    return f"```text\n{' '.join(usage.split())}\n```\n\n" + "\n".join(rows) + f"\n\n{shown}"


def python_names() -> str:
    """Return a page of everything that `import refreeze` gives, functions first."""
    import refreeze

    functions, classes = [], []
    for name in refreeze.__all__:
        value = getattr(refreeze, name)
        if inspect.isclass(value):
            classes.append(name)
        elif callable(value):
            functions.append(name)
    parts = ["# Python\n", "What `import refreeze` gives.\n", "## Functions\n"]
    parts += [f"::: refreeze.{name}\n" for name in functions]
    parts += ["## Classes\n"]
    parts += [f"::: refreeze.{name}\n" for name in classes]
    return "\n".join(parts)


def exceptions() -> str:
    """Return a page of the classes that are raised."""
    from refreeze import exceptions as module

    parts = [
        "# Errors\n",
        "All of them are in `refreeze.exceptions`. [What to do about each](../how-to/errors.md).\n",
    ]
    parts += [f"::: refreeze.exceptions.{name}\n" for name in module.__all__]
    return "\n".join(parts)


def _help(command: Any) -> str:
    return inspect.cleandoc(command.help or "")


def _filled(nav: Any, filled: dict[str, list[Any]]) -> Any:
    """Replace the names of folders by the pages in them."""
    if isinstance(nav, str):
        return filled.get(nav, nav)
    if isinstance(nav, dict):
        return {name: _filled(inner, filled) for name, inner in nav.items()}
    found: list[Any] = []
    for one in nav:
        inner = _filled(one, filled)
        found += inner if isinstance(inner, list) else [inner]
    return found


def _relinked(text: str, page: str) -> str:
    """Return text whose links to files of the repository lead to their pages, or are just names.

    Parameters
    ----------
    page
        Where the text is: a page of the site that is a file of the repository, or one in ``docs``.
    """
    pages = {path: name for name, path in COPIED.items()} | {"README.md": "index.md"}
    here = posixpath.dirname(page)
    at = "" if page in COPIED else posixpath.join("docs", here)

    def link(found: re.Match[str]) -> str:
        label, (where, hash_, anchor) = found[1], found[2].partition("#")
        if "://" in where or not where:
            return found[0]
        file = posixpath.normpath(posixpath.join(at, where))
        if file in pages:
            # The page is another one than the file in places: without the part in it.
            return f"[{label}]({posixpath.relpath(pages[file], here or '.')})"
        if file.startswith("docs/"):
            inside = posixpath.relpath(file.removeprefix("docs/"), here or ".")
            return f"[{label}]({inside}{hash_}{anchor})"
        return f"{label} (`{file}`)" if (ROOT / file).exists() else found[0]

    return re.sub(r"\[([^]]+)\]\(([^)\s]+)\)", link, text)
