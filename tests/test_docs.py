"""Documents that promise: each guarantee names a test, each package has its sentence."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUARANTEES = ROOT / "docs" / "guarantees.md"
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def sentences() -> list[str]:
    """Bullet points of guarantees.md, joined over their lines."""
    text = GUARANTEES.read_text()
    return [" ".join(item.split()) for item in re.split(r"^- ", text, flags=re.M)[1:]]


def test_each_guarantee_names_a_test_that_exists() -> None:
    assert sentences()
    for sentence in sentences():
        references = REFERENCE.findall(sentence)
        assert references, f"names no test: {sentence}"
        for file, name in references:
            path = ROOT / file
            assert path.is_file(), f"{file} does not exist: {sentence}"
            functions = {
                node.name
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert not name or name in functions, f"{file} has no {name}: {sentence}"


def test_structure_has_a_sentence_for_each_package() -> None:
    text = (ROOT / "docs" / "structure.md").read_text()
    source = ROOT / "src" / "firefront"
    packages = [
        path.parent.relative_to(source).as_posix()
        for path in source.rglob("__init__.py")
        if path.parent != source
    ]
    missing = [name for name in packages if f"`{name}/`" not in text]
    assert not missing, f"docs/structure.md says nothing of {missing}"


def test_local_links_in_documents_lead_somewhere() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
