"""Runs llama.cpp's converter on many checkpoints in one process: `llama_convert.py SOURCE JOBS.json`.

Two things are set right for the comparison. It reads config.json through transformers' AutoConfig, which fills defaults
of experts into dense models: here it reads the file as it is. And it knows the pre-tokenizers of published tokenizers
only, by a checksum of tokens: here each job says the name.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    source, jobs = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    sys.path.insert(0, str(source))
    sys.path.insert(0, str(source / "gguf-py"))
    convert_hf_to_gguf = import_module("convert_hf_to_gguf")
    base = import_module("conversion.base")

    def load_hparams(folder: Path, is_mistral_format: bool = False) -> Any:
        assert not is_mistral_format
        return json.loads(folder.joinpath("config.json").read_text(encoding="utf-8"))

    base.ModelBase.load_hparams = staticmethod(load_hparams)
    for job in jobs:
        base.TextModel.get_vocab_base_pre = lambda _self, _tokenizer, name=job["pre"]: name
        sys.argv = ["convert_hf_to_gguf.py", job["model"], "--outfile", job["outfile"], "--outtype", job["outtype"]]
        convert_hf_to_gguf.main()


if __name__ == "__main__":
    main()
