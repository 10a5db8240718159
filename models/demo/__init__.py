"""The demo model: a small, real Nemotron 3 that knows a closed little world, and questions to ask it."""

from pathlib import Path

from nemotron_gguf.models.demo.questions import QUESTIONS, Question

CHECKPOINT = Path(__file__).parent / "checkpoint"
"""The checkpoint folder, in the layout of the Hub's Nemotron 3 checkpoints."""

__all__ = ["CHECKPOINT", "QUESTIONS", "Question"]
