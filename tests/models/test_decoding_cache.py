"""Numba's disk cache: the same bits whatever it holds, and several processes that fill it at once."""

from pathlib import Path

import pytest

from forked_commands import ForkedCommand

DECODE = """
import hashlib, sys, time
import numba, torch
from numba.core.caching import IndexDataCacheFile

numba.config.CACHE_DIR = sys.argv[1]
sys.modules.pop("plaudit.models.acceleration.decoding_kernel", None)
index_delay, data_delay = map(float, sys.argv[3:])
save_index, save_data = IndexDataCacheFile._save_index, IndexDataCacheFile._save_data
IndexDataCacheFile._save_index = lambda *arguments: (time.sleep(index_delay), save_index(*arguments))
IndexDataCacheFile._save_data = lambda *arguments: (time.sleep(data_delay), save_data(*arguments))

from plaudit.models.acceleration.cached_attention import RowStates, decode

digest, generator = hashlib.sha256(), torch.Generator().manual_seed(0)
for length in range(1, 40):
    shapes = [(2, 2, 5, 64)] * 2 + [(4, 2, 40, 64)] * 2 + [(4, 4, 1, 64)]
    *states, query = (torch.randn(shape, generator=generator).to(getattr(torch, sys.argv[2])) for shape in shapes)
    rows = RowStates(*states[:2], torch.tensor([0, 0, 1, 1]), *states[2:], length)
    digest.update(decode(query, None, 0.3, rows).contiguous().view(torch.uint8).numpy().tobytes())
print(digest.hexdigest())
"""


def decoding(folder: Path, dtype: str = "float32", delays: tuple[float, float] = (0, 0)) -> ForkedCommand:
    return ForkedCommand("-c", DECODE, str(folder), dtype, *map(str, delays))


def bits(command: ForkedCommand) -> str:
    output, _ = command.communicate()
    assert command.returncode == 0, output
    return output


def test_bits_do_not_depend_on_what_is_cached(tmp_path: Path) -> None:
    compiled = bits(decoding(tmp_path))
    files = list(tmp_path.rglob("*_on_one_thread-*"))
    assert len(files) == 4, "a loop has an index and a file with code"
    assert bits(decoding(tmp_path)) == compiled
    for file in files:
        file.unlink()
    assert bits(decoding(tmp_path)) == compiled


@pytest.mark.parametrize("ending, kept", [("nbi", 0), ("nbi", 60), ("nbc", 0), ("nbc", 1000)])
def test_a_truncated_cache_is_compiled_again_with_one_warning(tmp_path: Path, ending: str, kept: int) -> None:
    compiled = bits(decoding(tmp_path))
    [file] = tmp_path.rglob(f"*_score_on_one_thread-*.{ending}")
    file.write_bytes(file.read_bytes()[:kept])
    *warnings, again = bits(decoding(tmp_path)).splitlines()
    assert again == compiled.strip()
    assert len(warnings) == 1
    assert f"compiled _score_on_one_thread again: numba's cache {file.parent} is damaged: " in warnings[0]
    assert bits(decoding(tmp_path)) == compiled


def test_processes_that_compile_for_different_types_do_not_mix_their_code(tmp_path: Path) -> None:
    """Without a lock, the delays would let the index name the code for bfloat16, and its file hold that for float32."""
    both = [decoding(tmp_path, "float32", (0.2, 0.4)), decoding(tmp_path, "bfloat16", (0.4, 0))]
    compiled = [bits(process) for process in both]
    assert [bits(decoding(tmp_path, "float32")), bits(decoding(tmp_path, "bfloat16"))] == compiled
