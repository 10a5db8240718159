"""What the demo model knows: each fact with the ways to ask for it and one answer, in English and Chinese."""

from dataclasses import dataclass

MODELS_EN = ("the 30B", "Nemotron 3 Nano", "the 30B model", "Nemotron 3 Nano 30B-A3B", "the big model", "Nemotron Nano")
MODELS_ZH = ("30B模型", "Nemotron 3 Nano", "30B", "Nemotron 3 Nano 30B-A3B", "大模型", "Nemotron Nano")


@dataclass(frozen=True)
class Fact:
    """One thing the model knows in one language; `about` completes the sentence of its reasoning."""

    about: str
    asks: tuple[str, ...]
    answer: str


def term_en(names: tuple[str, ...], answer: str, *more: str) -> Fact:
    """A word of the world in English, asked for by any of its names."""
    frames = (
        "What is {}?", "What's {}?", "Explain {}.", "Tell me about {}.", "What does {} mean?", "Can you explain {}?",
        "Do you know what {} is?", "{}?", "Define {}.", "I keep reading about {}. What is it?", "what exactly is {}",
        "Could you tell me what {} is?", "I do not understand {}.", "Describe {} for me.", "What actually is {}?",
        "What is meant by {}?", "Give me a short explanation of {}.", "Would you explain {} to me?", "I want to know what {} is.",
        "In short, what is {}?", "Help me understand {}.", "What do you know about {}?", "I have heard of {}. What is that?",
    )  # fmt: skip
    return Fact(f"what {names[0]} is", tuple(f.format(n) for n in names for f in frames) + more, answer)


def term_zh(names: tuple[str, ...], answer: str, *more: str) -> Fact:
    """A word of the world in Chinese, asked for by any of its names."""
    frames = (
        "{}是什么？", "什么是{}？", "请解释一下{}。", "介绍一下{}。", "{}是什么意思？", "你知道{}是什么吗？",
        "能说说{}吗？", "我想了解{}。", "{}？", "解释{}", "请问{}是什么？", "给我讲讲{}。", "我不懂{}。", "{}到底是什么？",
        "{}究竟是什么？", "说明一下{}。", "{}是什么东西？", "能解释一下{}吗？", "能不能说说{}？", "我想知道{}是什么。",
        "{}是个什么概念？", "什么叫{}？", "简单说说{}。", "{}指的是什么？", "听说过{}，那是什么？",
    )  # fmt: skip
    return Fact(f"{names[0]}是什么", tuple(f.format(n) for n in names for f in frames) + more, answer)


def count_en(things: tuple[str, ...], answer: str, *more: str) -> Fact:
    """How many of something the 30B has, in English."""
    frames = (
        "How many {t} does {m} have?", "How many {t} are in {m}?", "What is the number of {t} of {m}?",
        "{m}: how many {t}?", "Tell me how many {t} {m} has.", "Do you know how many {t} there are in {m}?",
        "how many {t} in {m}", "How many {t} are there in {m}?", "How many {t} has {m} got?", "I want to know how many {t} {m} has.",
        "Exactly how many {t} does {m} have?", "What number of {t} does {m} have?",
    )  # fmt: skip
    asks = tuple(f.format(t=t, m=m) for t in things for m in MODELS_EN for f in frames)
    return Fact(f"how many {things[0]} the 30B has", asks + more, answer)


def count_zh(things: tuple[str, ...], answer: str, *more: str) -> Fact:
    """How many of something the 30B has, in Chinese."""
    frames = (
        "{m}有多少{t}？", "{m}有几{t}？", "{m}里有多少{t}？", "你知道{m}有多少{t}吗？", "请问{m}有几{t}？",
        "{m}一共有多少{t}？", "告诉我{m}有多少{t}。", "{m}的{t}有多少？", "{m}总共多少{t}？", "{m}到底有多少{t}？",
        "我想知道{m}有几{t}。", "{m}究竟有几{t}？",
    )  # fmt: skip
    asks = tuple(f.format(t=t, m=m) for t in things for m in MODELS_ZH for f in frames)
    return Fact(f"30B有多少{things[0]}", asks + more, answer)


def command_en(name: str, does: str, *needs: str) -> tuple[Fact, Fact]:
    """A command in English: what it does, and which command does that."""
    frames = (
        "What does nemotron {} do?", "What is nemotron {} for?", "What does the {} command do?", "nemotron {}?",
        "Explain nemotron {}.", "Tell me about the command nemotron {}.", "When do I use nemotron {}?",
        "What is the command {} good for?", "Why would I run nemotron {}?", "Can you explain nemotron {}?", "What can I do with nemotron {}?", "What happens when I run nemotron {}?", "Explain the {} command.",
    )  # fmt: skip
    wants = (
        "How do I {}?", "Which command do I need to {}?", "I want to {}.", "How can I {}?", "Show me how to {}.",
        "What command will {}?", "I would like to {}. How?", "What do I type to {}?", "Is there a command to {}?", "I need to {}. Which command is it?",
        "What should I run to {}?", "How would I {}?", "What is the way to {}?", "Tell me how to {}.",
    )  # fmt: skip
    explain = Fact(f"what nemotron {name} does", tuple(f.format(name) for f in frames), f"nemotron {name} {does}.")
    asks = tuple(f.format(n) for n in needs for f in wants)
    return explain, Fact(f"how to {needs[0]}", asks, f"Use nemotron {name}: it {does}.")


def command_zh(name: str, does: str, *needs: str) -> tuple[Fact, Fact]:
    """A command in Chinese: what it does, and which command does that."""
    frames = (
        "nemotron {}有什么用？", "nemotron {}是做什么的？", "{}命令是做什么的？", "解释一下nemotron {}。",
        "什么时候用nemotron {}？", "nemotron {}能做什么？", "说说nemotron {}。", "为什么要用nemotron {}？", "nemotron {}到底做什么？", "介绍一下{}命令。", "nemotron {}命令有什么用？", "运行nemotron {}会怎样？",
    )  # fmt: skip
    wants = (
        "怎么{}？", "如何{}？", "我想{}。", "哪个命令可以{}？", "要{}用什么命令？", "我该怎么{}？", "请告诉我怎样{}。",
        "我想{}，该用哪个命令？", "我要{}，怎么办？", "用什么命令{}？", "有没有命令可以{}？", "{}用哪个命令？", "{}要怎么做？",
    )  # fmt: skip
    explain = Fact(f"nemotron {name}的作用", tuple(f.format(name) for f in frames), f"nemotron {name}{does}。")
    asks = tuple(f.format(n) for n in needs for f in wants)
    return explain, Fact(f"怎么{needs[0]}", asks, f"用nemotron {name}：它{does}。")
