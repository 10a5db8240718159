"""Ask a checkpoint all questions through transformers, greedily, and count the right answers."""

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemotron_gguf.models.demo import CHECKPOINT, QUESTIONS, Question
from nemotron_gguf.models.demo.training.tokenizer import Renderer


def answer(model: AutoModelForCausalLM, tokenizer: AutoTokenizer, render: Renderer, question: Question) -> str:
    """Everything the model says, reasoning included, with the <|im_end|> where it stopped by itself."""
    prompt = render(question.messages, question.tools, enable_thinking=question.thinking, add_generation_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=160, do_sample=False)
    said: str = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
    return said


def is_right(question: Question, said: str) -> bool:
    """Whether the answer holds all that is expected, came after reasoning if it should, and ended by itself."""
    reasoning, found, after = said.partition("</think>")
    if question.thinking and not (found and reasoning.strip()):
        return False
    final = after if question.thinking else said
    return final.endswith("<|im_end|>") and all(part in final for part in question.expected)


def main() -> None:
    """Print every answer, then how many of each kind were right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=CHECKPOINT)
    parser.add_argument("--wrong-only", action="store_true", help="print only the wrong answers")
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    render = Renderer(args.folder / "chat_template.jinja")
    tally: dict[str, list[bool]] = defaultdict(list)
    for question in QUESTIONS:
        said = answer(model, tokenizer, render, question)
        right = is_right(question, said)
        thinking = "thinking on" if question.thinking else "thinking off"
        for key in ("all", question.category, question.language, thinking):
            tally[key].append(right)
        if not (right and args.wrong_only):
            print(
                f"{'right' if right else 'WRONG'} | {question.messages[-1]['content']} | {thinking} | {said!r}",
                flush=True,
            )
    for key, results in tally.items():
        print(f"{key}: {sum(results)} of {len(results)}")


if __name__ == "__main__":
    main()
