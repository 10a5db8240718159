"""`python -m nemotron_gguf.runner.engine`: started by the front, not by people."""

from nemotron_gguf.runner.engine.main import main

main()
