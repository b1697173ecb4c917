"""Builds the pages: those of `docs/`, all results, and the API from its docstrings.

    pip install -e '.[docs]'
    python -m qa.site             # writes build/docs; zensical.toml says how they look

A copy of what the site is made of is put below `build/pages`, each file at the place
that it has in the repository, so that its links lead where they lead there. Only those
to files that are no pages are turned into addresses of the repository. The README is
the front page. Formulas become MathML, which needs no script. A dead link or anchor
stops the build.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "docs/*.css",
    "experiments/results/**/*.md",
    "experiments/results/**/*.png",
)
"""What the pages are copied from."""
OURS = re.compile(
    r"https://(raw\.githubusercontent|github)\.com/jaxmtl/jaxmtl/((blob|tree)/)?main/"
)
"""Begins an address of a file of ours. The README has such links, as it is read where
no repository is around it: on the page of a package."""
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)(?P<path>[^)#\s]+)")
FORMULA = re.compile(
    r"\$\$(?P<block>[^$]+)\$\$|(?<![\w\\$])\$(?P<inline>[^$\n]+)\$(?![\w$])"
)
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def gather(folder: Path) -> None:
    """Copies and makes all pages.

    Args:
      folder: to fill; what it held is gone.
    """
    shutil.rmtree(folder, ignore_errors=True)
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    address = project["project"]["repo_url"]
    places = [
        path.relative_to(ROOT).as_posix()
        for part in PARTS
        for path in sorted(ROOT.glob(part))
    ]
    for place in places:
        target = folder / ("index.md" if place == "README.md" else place)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".md":
            text = (ROOT / place).read_text(encoding="utf-8")
            text = outside_code(with_formulas, OURS.sub("", text))
            text = with_links(text, posixpath.dirname(place), set(places), address)
            target.write_text(text, encoding="utf-8")
        else:
            shutil.copy(ROOT / place, target)
    (folder / "api").mkdir()
    for name, modules in api().items():
        body = "\n\n".join(f"::: {module}" for module in modules)
        text = f"# {name}\n\n{body}\n"
        (folder / "api" / f"{name}.md").write_text(text, encoding="utf-8")


def api() -> dict[str, list[str]]:
    """Page -> its modules: all settings, the library's files, then its folders."""
    package = ROOT / "jaxmtl"
    files = [f"jaxmtl.{path.stem}" for path in sorted(package.glob("[!_]*.py"))]
    folders = sorted(path.parent.name for path in package.glob("*/__init__.py"))
    return {
        "settings": ["experiments.settings.config"],
        "jaxmtl": files,
        **{name: [f"jaxmtl.{name}"] for name in folders},
    }


def with_links(text: str, here: str, pages: set[str], address: str) -> str:
    """Links to files that are no pages, as addresses of the repository."""

    def target(link: re.Match) -> str:
        place = posixpath.normpath(posixpath.join(here, link["path"]))
        if place == "README.md":
            return posixpath.relpath("index.md", here or ".")
        if place in pages:
            return link["path"]
        kind = "tree" if os.path.isdir(ROOT / place) else "blob"
        return f"{address}/{kind}/main/{place}"

    return LINK.sub(target, text)


def with_formulas(text: str) -> str:
    """Formulas between dollar signs as MathML."""
    from latex2mathml.converter import convert

    return FORMULA.sub(
        lambda found: convert(
            (found["block"] or found["inline"]).strip(),
            display="block" if found["block"] else "inline",
        ),
        text,
    )


def outside_code(change, text: str) -> str:
    """Changes all but fenced blocks and code within a line."""
    parts = CODE.split(text)
    return "".join(part if at % 2 else change(part) for at, part in enumerate(parts))


def main() -> int:
    """Gathers and builds; the exit code is the generator's."""
    gather(ROOT / "build" / "pages")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
