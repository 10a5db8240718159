"""What the READMEs show as Python runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_python_of_the_readme_runs(name: str, number: int, demo_q8: Path, tmp_path: Path) -> None:
    both = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    assert len(both) == 2
    source = both[number]
    script = tmp_path / "script.py"
    source = source.replace('"nano-Q4_K_M.gguf"', repr(str(demo_q8))).replace("ctx_size=65536", "ctx_size=2048, seed=1")
    script.write_text(source, encoding="utf-8")
    done = subprocess.run([sys.executable, "-X", "utf8", script], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert re.search(rb"stop \d+\s*$", done.stdout), done.stdout
