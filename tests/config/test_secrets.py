"""Secrets in addresses: what is masked, what a mask tells, and what cannot be done with a masked address."""

from pathlib import Path

import pytest

from plaudit.config.load import load_recipe
from plaudit.config.secrets import mask_addresses, mask_in_text, masked_places
from plaudit.errors import PlauditError
from plaudit.runs.directory import RunDirectory
from plaudit.stages.preflight import check_before_start

ADDRESS = "https://me:word@host/v1/0123456789abcdefghij/score?key=a&version=1#part"
MASKED = "https://***@host/v1/***/score?key=***&version=***#***"


def test_masks_for_messages_tell_nothing() -> None:
    assert mask_in_text(f"cannot reach {ADDRESS}") == f"cannot reach {MASKED}"
    assert mask_addresses({"url": [ADDRESS, "a?b=c"]}) == {"url": [MASKED, "a?b=c"]}


@pytest.mark.parametrize(
    "address, masked",
    [
        ("http://h/ok;jsessionid=hunter2/a;hunter2", "http://h/ok;jsessionid=***/a;***"),
        ("http://me:hun/ter2@h:80/ok", "http://***@h:80/ok"),
        ("http://h/token/hunter2/score", "http://h/token/***/score"),
        ("http://h/API_key/hunter2", "http://h/API_key/***"),
        ("http://h:80/people/me@home/a;b", "http://h:80/people/me@home/a;***"),
    ],
)
def test_secrets_within_paths(address: str, masked: str) -> None:
    assert mask_in_text(address) == masked
    distinct = str(mask_addresses(address, distinct=True))
    assert "hunter2" not in distinct
    assert mask_addresses(distinct, distinct=True) == distinct


def test_distinct_masks_differ_where_the_address_does() -> None:
    def parts(address: str) -> list[str]:
        text = mask_addresses(address, distinct=True)
        assert len(text) == len(MASKED) + 4 * 4
        return [piece[:4] for piece in text.split("***")[2:]]

    path, key, version, fragment = parts(ADDRESS)
    assert parts(ADDRESS.replace("word", "another")) == [path, key, version, fragment]
    assert [one == other for one, other in zip(parts(ADDRESS), parts(ADDRESS.replace("=1", "=2")), strict=True)] == [
        True,
        True,
        False,
        True,
    ]
    assert parts(ADDRESS.replace("host", "tsoh")) != [path, key, version, fragment]


def test_masking_twice_changes_nothing() -> None:
    masked = mask_addresses(ADDRESS, distinct=True)
    assert mask_addresses(masked, distinct=True) == masked
    assert list(masked_places({"a": [{"b": masked}, ADDRESS]})) == [(("a", 0, "b"), masked)]


def test_a_masked_address_is_refused_unless_its_stage_is_finished(tmp_path: Path) -> None:
    reward = {"name": "judge", "kind": "http", "url": mask_addresses(ADDRESS, distinct=True)}
    recipe = load_recipe("quickstart", [{"rl.rewards": [reward], "output": str(tmp_path)}])
    wanted = [name for name in recipe.sections() if name != "evaluate"]
    run = RunDirectory(tmp_path / recipe.name)
    with pytest.raises(PlauditError, match=r"^rl\.rewards\.0\.url: .*; add rl\.rewards\.0\.url=ADDRESS") as error:
        check_before_start(recipe, run, wanted, [])
    assert "\n" not in str(error.value)
    for name in wanted:
        run.stage(name).model.mkdir(parents=True)
        run.stage(name).finish({"seconds": 1.0})
    check_before_start(recipe, run, wanted, [])
