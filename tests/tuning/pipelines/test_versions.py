"""Versions of a pipeline's model: tried, promoted once, gone back to; never two candidates."""

import pytest

from firefront.core.errors import RequestError
from firefront.tuning.pipelines.versions import Trial, Versions

TRIED = Trial(model="m:ft-a", sha256="a" * 64, run_id="run-1", share=0.1, started_at=5)


def test_from_the_base_to_versions_and_back() -> None:
    versions = Versions()
    assert versions.serving is None and versions.models == set()
    versions = versions.trying(TRIED)
    assert versions.serving is None and versions.models == {"m:ft-a"}
    versions = versions.promoted("m:ft-a", "a" * 64, "run-1", 7)
    assert versions.trial is None and versions.serving.number == 1
    versions = versions.promoted("m:ft-b", "b" * 64, "run-2", 8)
    assert [version.number for version in versions.all] == [1, 2]
    assert versions.serving.model == "m:ft-b"
    assert versions.back_to(1).serving.model == "m:ft-a"
    assert versions.back_to(0).serving is None
    assert versions.back_to(1).models == {"m:ft-a", "m:ft-b"}  # one may go forth again
    assert versions.back_to(1).promoted("m:ft-c", "c" * 64, "run-3", 9).serving.number == 3


def test_said_twice_it_is_done_once() -> None:
    """A server that died between the store and its memory says it again."""
    once = Versions().trying(TRIED).promoted("m:ft-a", "a" * 64, "run-1", 7)
    assert once.promoted("m:ft-a", "a" * 64, "run-1", 9) == once
    assert Versions().trying(TRIED).trying(TRIED).trial == TRIED
    assert once.dropped("run-1") == once


def test_a_candidate_is_its_run_s() -> None:
    versions = Versions().trying(TRIED)
    assert versions.dropped("run-2") == versions
    assert versions.promoted("m:ft-b", "b" * 64, "run-2", 8).trial == TRIED
    with pytest.raises(RequestError, match="run-1 tries a version already"):
        versions.trying(Trial(model="m", sha256="", run_id="run-2", share=0.1, started_at=1))


@pytest.mark.parametrize("number", [-1, 2, 2**40])
def test_a_version_that_there_is_not(number: int) -> None:
    versions = Versions().promoted("m:ft-a", "a" * 64, "run-1", 7)
    with pytest.raises(RequestError, match="there are 1; 0 is the base") as raised:
        versions.back_to(number)
    assert raised.value.param == "version"
