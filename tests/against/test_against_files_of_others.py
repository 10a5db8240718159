"""Good files of other makers pass: llama.cpp's vocabularies, SmolLM2, Gemma 3; and one of the real 30B's size."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import GGUFFile, read_gguf
from nemotron_gguf.models.gguf_values import ValueType, array, f32, string, u32
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.runner import NoModelError, inspect_model
from nemotron_gguf.runner.preflight.header import Header
from nemotron_gguf.runner.preflight.key_types import GENERAL
from nemotron_gguf.runner.preflight.vocabulary import check_vocabulary, tokens
from nemotron_gguf.tests.against.conftest import llama_cpp_source
from nemotron_gguf.tests.against.files_of_others import OFFERS, file_of_others
from nemotron_gguf.tests.against.quantizer.test_against_quantizer_30b import metadata, tensors
from nemotron_gguf.tests.hostile.gguf.oracle import Oracle

VOCABULARIES = """
    aquila baichuan bert-bge command-r deepseek-coder deepseek-llm falcon gemma-4 gpt-2 gpt-neox llama-bpe llama-spm mpt
    nomic-bert-moe phi-3 qwen2 qwen35 refact starcoder
"""


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as process:
        yield process


@pytest.mark.parametrize("name", VOCABULARIES.split())
def test_vocabularies_of_llama_cpp(name: str) -> None:
    try:
        folder = llama_cpp_source() / "models"
    except pytest.fail.Exception as error:
        pytest.skip(str(error))
    path = folder / f"ggml-vocab-{name}.gguf"
    if not path.is_file():
        pytest.skip(f"{folder} has no {path.name}")
    file = read_gguf(path)
    assert len(tokens(file)) > 30_000
    header = Header(file)
    check_vocabulary(header)
    for key, kind in GENERAL.items():
        header.scalar(key, kind)
    with pytest.raises(NoModelError, match="no weights"):
        inspect_model(path)


@pytest.mark.parametrize("name", OFFERS)
def test_models_of_others_pass_and_run(name: str, oracle: Oracle) -> None:
    path = file_of_others(name)
    start = time.perf_counter()
    file = inspect_model(path)
    assert time.perf_counter() - start < 1
    assert len(file.tensors) > 200
    verdict = oracle.ask(path)
    assert verdict.outcome == "runs", verdict.why


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nano 30B-A3B as Q4_0 and Q8_0 with a vocabulary of its real size: 24 GB, of which the header alone is there."""
    words = [f"<SPECIAL_{index}>" for index in range(1000)] + [f"Ġtoken{index}é" for index in range(131072 - 1000)]
    keys = metadata() | {
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string("pixtral"),
        "tokenizer.ggml.tokens": array(ValueType.STRING, words),
        "tokenizer.ggml.token_type": array(ValueType.INT32, [3] * 1000 + [1] * (131072 - 1000)),
        "tokenizer.ggml.merges": array(ValueType.STRING, [f"Ġa{index} b{index}" for index in range(269_443)]),
        "tokenizer.ggml.bos_token_id": u32(1),
        "tokenizer.ggml.eos_token_id": u32(2),
        "nemotron_h_moe.expert_weights_scale": f32(2.5),
    }
    small = {name for name, _, _ in tensors() if "exps" in name and int(name.split(".")[1]) % 3}
    entries = [(name, shape, _type(name, kind, small)) for name, shape, kind in tensors()]
    header = encode_header(keys, entries)
    path = tmp_path_factory.mktemp("large") / "30b.gguf"
    with path.open("wb") as file:
        file.write(header.data)
        file.truncate(header.file_size)
    return path


def _type(name: str, kind: GGMLType, small: set[str]) -> GGMLType:
    if kind is not GGMLType.BF16:
        return kind
    return GGMLType.Q4_0 if name in small else GGMLType.Q8_0


def test_a_file_of_24_gb_passes_in_a_second(large: Path) -> None:
    assert 23e9 < large.stat().st_size < 27e9
    times = []
    for _ in range(3):  # the machine may be busy with something else
        start = time.perf_counter()
        file = inspect_model(large)
        times.append(time.perf_counter() - start)
    assert isinstance(file, GGUFFile)
    assert len(tokens(file)) == 131072
    assert min(times) < 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's peak")
def test_a_file_of_24_gb_takes_less_than_200_mb(large: Path) -> None:
    """In a process of its own, the interpreter included."""
    script = (
        "import sys\nfrom nemotron_gguf.runner import inspect_model\ninspect_model(sys.argv[1])\n"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(large)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200_000, "kB"
