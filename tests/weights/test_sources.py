"""Specs and catalogs: what is accepted, what it means, and what is refused before any fetch."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firefront.core.errors import FirefrontError, NotFoundError, RequestError
from firefront.weights.sources import (
    BUILT_IN,
    Entry,
    HubSource,
    IndexSource,
    LocalSource,
    check_name,
    load_catalog,
    parse_spec,
)

BENCH = Path(__file__).parent.parent.parent / "bench" / "models.toml"
PIN = "ab" * 32


@pytest.mark.parametrize("catalog", [BUILT_IN, BENCH], ids=["built-in", "bench"])
def test_our_catalogs_are_pinned(catalog: Path) -> None:
    entries = load_catalog(catalog)
    assert entries
    for name, entry in entries.items():
        model = parse_spec(name, entries)
        assert model.name == name
        assert isinstance(model.source, IndexSource)
        assert entry.sha256 and entry.size and entry.license


def test_index_spec_pairs_packages_with_paths() -> None:
    source = parse_spec("pypi:a==1,b==2!x/1.bin+y/2.bin", {}).source
    assert isinstance(source, IndexSource)
    assert source.parts == (("a", "1", "x/1.bin"), ("b", "2", "y/2.bin"))
    source = parse_spec("pypi:a==1!x/1.bin+x/2.bin", {}).source
    assert isinstance(source, IndexSource)
    assert source.parts == (("a", "1", "x/1.bin"), ("a", "1", "x/2.bin"))
    assert source.packages == [("a", "1")]


def test_hub_and_local_specs() -> None:
    assert parse_spec("hf:Org/Name", {}).source == HubSource("Org", "Name")
    assert parse_spec("hf:Org/Name:f.gguf", {}).source == HubSource("Org", "Name", "f.gguf")
    assert parse_spec("file:/x/Y.gguf", {}).source == LocalSource(Path("/x/Y.gguf"))
    assert parse_spec("./folder", {}).source == LocalSource(Path("folder"))
    assert parse_spec("/x/My Model.gguf", {}).name == "my-model"


def test_names_of_specs_are_stable_and_distinct() -> None:
    a, b = parse_spec("hf:o/N-1", {}), parse_spec("hf:p/N-1", {})
    assert a.name.startswith("n-1-") and b.name.startswith("n-1-") and a.name != b.name
    assert parse_spec("hf:o/N-1#sha256=" + PIN, {}).name == a.name


def test_pin_in_spec() -> None:
    assert parse_spec(f"hf:o/n:f.gguf#sha256={PIN}", {}).entry.sha256 == PIN
    for bad in ("#sha256=12", "#md5=12", "#x"):
        with pytest.raises(RequestError, match="sha256"):
            parse_spec(f"hf:o/n:f.gguf{bad}", {})


def test_unknown_alias_lists_the_known() -> None:
    with pytest.raises(NotFoundError, match="known names: one, two"):
        parse_spec("three", {"one": Entry(spec="hf:a/b"), "two": Entry(spec="hf:a/b")})


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/b", "a\\b", ".x", "-x", "A", "a\x00", "a\n", "%2e%2e", "x" * 64, "x" * 300,
     "a\u2024\u2024b", "\uff0e\uff0e", "/abs", "nul\u0000", "é"],
)  # fmt: skip
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(RequestError):
        check_name(name)


@pytest.mark.parametrize(
    "spec",
    [
        "pypi:a==1!../x.gguf",
        "pypi:a==1!/etc/x.gguf",
        "pypi:a==1!x/../../y.gguf",
        "pypi:a==1!x//y.gguf",
        "pypi:a==1!./x.gguf",
        "pypi:a==1!C:/x.gguf",
        "pypi:a==1!x\\y.gguf",
        "pypi:a==1!x\x00.gguf",
        "pypi:a==1!",
        "pypi:a==1",
        "pypi:a!x.gguf",
        "pypi:--index-url=http://h==1!x.gguf",
        "pypi:-r==1!x.gguf",
        "pypi:a==1;x==2!x.gguf",
        "pypi:a @ http://h/x.whl==1!x.gguf",
        "pypi:a==1,b==2!x+y+z",
        "hf:only-org",
        "hf:../..",
        "hf:a/b/c",
        "hf:a/..:x.gguf",
        "hf:a/b:../x.gguf",
        "hf:a/b:model.bin",
        "hf:a/b:x.safetensors",
        "hf:a b/c",
    ],
)
def test_bad_specs_are_refused(spec: str) -> None:
    with pytest.raises(RequestError):
        parse_spec(spec, {})


@given(st.text(max_size=80))
@example("~0")
def test_any_text_parses_or_is_refused(text: str) -> None:
    for spec in (text, f"file:{text}", f"hf:{text}", f"pypi:{text}", f"pypi:a==1!{text}"):
        try:
            model = parse_spec(spec, {})
        except FirefrontError:
            continue
        check_name(model.name)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[models.X]\nspec='hf:a/b'", "name"),
        ("[models.a]\nspec='alias'", "spec"),
        ("[models.a]\nspec='hf:a/b'\nsha256='12'", "64"),
        ("[models.a]\nspec='hf:a/b'\nnonsense=1", "nonsense"),
        ("[models.a]\nspec='hf:a/b'\nfile='../x.gguf'", "inside"),
        ("other=1", "other"),
        ("[models", "catalog"),
    ],
)
def test_bad_catalogs_say_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(RequestError, match=problem):
        load_catalog(path)
