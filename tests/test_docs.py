"""What the documentation shows is true: code runs, commands parse, links and arrows hold."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml

import tauten as tt
from tauten import cli

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "tauten"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of this language, each with the number of lines before its code."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(2)), match[2])
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Identifiers of the headings, as the site generator makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles)
    return {re.sub(r"[-\s]+", "-", title) for title in words}


@every_page
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "docs"}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), names)


def with_towers(config, name):
    config.model.image = config.model.text = name.partition(":")[2]
    return config


@every_page
def test_commands_are_understood(page, tmp_path, monkeypatch):
    from tauten import experiments, training
    from tauten.recipes import config_file, pairs
    from tauten.training import initial
    from tauten.training.options import pretrained

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(initial, "as_run", lambda config, run: config)
    monkeypatch.setattr(pretrained, "from_model", with_towers)
    monkeypatch.setattr(config_file, "read_config", lambda file: pairs())
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    trained = []

    def train(config):
        trained.append(config)
        return training.RunResult(config.output, {}, {}, 0, 0, 0.0)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {})
    rooms = {
        "inference": ("_embed", "_export", "_search"),
        "data": ("_data_list", "_data_check", "_data_icons"),
        **{room: (f"_{room}",) for room in ("demo", "evaluate", "cluster", "report", "compare")},
        "recipes": ("_recipes",),
    }
    for room, commands in rooms.items():
        for command in commands:
            monkeypatch.setattr(f"tauten.cli.{room}.{command}", lambda options: None)
    whole = [code.replace("\\\n", "") for _, code in blocks(page, "bash")]
    lines = [line for code in whole for line in code.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("tauten ")]
    assert [cli.main(words[1:]) for words in commands] == [0] * len(commands)
    assert len(trained) == sum(words[1] == "train" for words in commands)


@every_page
def test_links_between_pages_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if page.parent == DOCS:
            assert file.is_relative_to(DOCS), f"{target} is not part of the site"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def files(section: list[dict[str, str]]) -> list[str]:
    return [file for entry in section for file in entry.values()]


def test_the_navigation_is_the_pages():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [page for entry in config["nav"] for page in entry.values()]
    listed = [file for page in pages for file in ([page] if isinstance(page, str) else files(page))]
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


def test_every_public_name_is_documented():
    text = "".join(
        page.read_text(encoding="utf-8") for page in DOCS.glob("*.md") if page.stem != "api"
    )
    missing = [name for name in tt.__all__ if not re.search(rf"\b{name}\b", text)]
    assert missing == []


def imported(file: Path) -> set[str]:
    """Parts of tauten that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("tauten.")}
    return found


def test_imports_follow_the_arrows_of_the_design_page():
    (block,) = (code for _, code in blocks(DOCS / "design.md", "text") if "→" in code)
    arrows = dict(re.findall(r"^(\w+) +→ (.+)$", block, re.MULTILINE))
    parts = {path.stem for path in SOURCE.iterdir() if not path.name.startswith(("_", "py."))}
    assert set(arrows) <= parts
    for part in sorted(parts):
        path = SOURCE / part
        files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        used = set().union(*(imported(file) for file in files)) & parts
        assert used - {part} <= set(arrows.get(part, "").split(", ")), part


def test_the_reference_has_every_public_name():
    listed = set(
        re.findall(r"^::: tauten\.[\w.]*\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    )
    public = {
        name for name in tt.__all__ if callable(getattr(tt, name)) and not name.endswith("Spec")
    }
    assert public - listed == set()


def test_the_reference_names_what_is_there():
    for path in re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE):
        module, name = path.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), name), path
