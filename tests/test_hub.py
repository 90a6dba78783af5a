"""Models of the hub are found or refused after one request, without the retries of the libraries."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors
from transformers import AutoConfig, AutoTokenizer

from plaudit import hub
from plaudit.errors import PlauditError
from plaudit.hub import check_model, hub_options, is_hub_name, missing_part
from plaudit.models.loading.pretrained import load_from

NAME = "owner/name"


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Exception | None, bool], list[float]]]:
    """Return a function that sets what the hub answers; it returns the timeouts of the requests."""

    def set_answer(error: Exception | None, cached: bool = False) -> list[float]:
        requests: list[float] = []

        def request(url: str, timeout: float) -> None:
            assert url == f"{constants.ENDPOINT}/{NAME}/resolve/main/config.json"
            requests.append(timeout)
            if error is not None:
                raise error

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", request)
        monkeypatch.setattr(hub, "is_cached", lambda name, kind: cached)
        return requests

    yield set_answer
    hub_options.cache_clear()


def http_error(kind: Any) -> Exception:
    """Return an error of the hub without its response."""
    error: Exception = kind.__new__(kind)
    error.args = ("answered",)
    return error


Answer = Callable[..., list[float]]


def test_a_model_that_the_hub_has(answer: Answer) -> None:
    requests = answer(None)
    assert hub_options(NAME) == {}
    assert requests == [hub.SECONDS_TO_WAIT]
    check_model(NAME)
    assert len(requests) == 1, "asked again"


def test_a_repository_without_a_configuration_may_be_an_adapter(answer: Answer) -> None:
    answer(http_error(errors.EntryNotFoundError))
    assert hub_options(NAME) == {}


@pytest.mark.parametrize(
    "error, message",
    [
        (ConnectionError("Name or service not known"), "the hub cannot be reached"),
        (http_error(errors.RepositoryNotFoundError), "the hub has no such model; correct the name, or .*hf auth login"),
        (http_error(errors.GatedRepoError), "accept its terms on the hub, then run: hf auth login"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused_after_one_request(
    answer: Answer, error: Exception, message: str
) -> None:
    requests = answer(error)
    with pytest.raises(PlauditError, match=rf"^{NAME}: .*{message}"):
        check_model(NAME)
    assert len(requests) == 1

    def load(path: str, **options: Any) -> None:
        raise AssertionError("the library was asked")

    with pytest.raises(PlauditError, match=rf"^cannot load model {NAME}: .*{message}"):
        load_from(f"model {NAME}", load, NAME)


def test_cached_files_are_used_alone_where_the_hub_cannot_be_reached(answer: Answer) -> None:
    answer(ConnectionError("gone"), cached=True)
    assert load_from(f"model {NAME}", lambda path, **options: options, NAME, dtype=3) == {
        "local_files_only": True,
        "trust_remote_code": False,
        "dtype": 3,
    }


def test_without_a_connection_nothing_is_requested(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = answer(None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PlauditError, match=r"HF_HUB_OFFLINE is set; correct the name, or connect"):
        hub_options(NAME)
    assert requests == []


def test_which_paths_may_be_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert [
        path for path in ("gpt2", NAME, "here", "here/x", "./x", "/x/y", "a/b/c", "~/x", "") if is_hub_name(path)
    ] == [
        "gpt2",
        NAME,
    ]
    assert missing_part(NAME) is None
    assert str(missing_part("here/x")).startswith("no such folder; give an existing folder or a hub name")
    assert str(missing_part("~/x")).startswith("no such folder; ~ is not expanded")


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_model_folder_without_a_tokenizer(tmp_path: Path, architecture: str) -> None:
    AutoConfig.for_model(architecture).save_pretrained(tmp_path)
    with pytest.raises(PlauditError, match=r"cannot load tokenizer x: no tokenizer .* here; save") as error:
        load_from("tokenizer x", AutoTokenizer.from_pretrained, str(tmp_path))
    assert "\n" not in str(error.value)
