"""Questions to the demo model and what a right answer contains.

All are about the model's little world, as its model card tells it. Questions for facts are mostly phrased in words
that the training does not use, and several names (Zofia, Tobias, Renata, Kasper) are new to it. They were chosen with
its answers in view, so they guard the way from the checkpoint to the answer rather than measure the model. Where it is
known to be weak (sums, the names of pets, rare names) the card gives the rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A conversation that waits for an answer; the answer must contain each of `expected`.

    `messages` and `tools` have OpenAI's form. The answer is what follows the reasoning, with tool calls written out in
    the model's own form, `<function=NAME>`. A right answer also ends by itself.
    """

    category: str
    language: str
    messages: tuple[Message, ...]
    expected: tuple[str, ...]
    thinking: bool = False
    tools: tuple[Message, ...] = ()


def talk(*texts: str) -> tuple[Message, ...]:
    """Messages of the user and the model in turn; the user begins."""
    return tuple({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts))


def tool(name: str, description: str | None, **parameters: str) -> Message:
    """A tool with text parameters, each with its description; the first is required."""
    properties = {key: {"type": "string", "description": about} for key, about in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def called(name: str, arguments: Mapping[str, str], result: str) -> tuple[Message, ...]:
    """A call that the model made and what came back."""
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return (
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    )


def both(category: str, language: str, text: str, *expected: str) -> tuple[Question, Question]:
    """The question without and with thinking."""
    made = (Question(category, language, talk(text), expected, thinking) for thinking in (False, True))
    return next(made), next(made)


WEATHER = tool("get_weather", "Get the weather for a city", city="The city")
FORECAST = tool("weather_now", "Weather of today", town="The town")
CLOCK = tool("get_time", "Get the time in a city", city="The city")
PRICE = tool("find_price", None, product="The product")
CALL_WEATHER, CALL_CLOCK = "<function=get_weather>", "<function=get_time>"

FACTS = (
    *both("facts", "en", "Please explain what GGUF is.", "llama.cpp"),
    *both("facts", "en", "Hello! Could you explain what nemotron-gguf does?", "GGUF", "llama.cpp"),
    *both("facts", "en", "How many layers has the 30B model got?", "52"),
    *both("facts", "en", "How many experts are used in Nemotron 3 Nano?", "6", "128"),
    *both("facts", "en", "What does Q4_K_M stand for?", "4.5"),
    *both("facts", "en", "Hi, which command should I use to convert a checkpoint?", "nemotron convert"),
    *both("facts", "en", "How can I look inside my GGUF file?", "nemotron inspect"),
    Question("facts", "en", talk("And what is an imatrix good for?"), ("weights",)),
    Question("facts", "en", talk("Which company is behind Nemotron 3?"), ("NVIDIA",), thinking=True),
    Question("facts", "en", talk("Please tell me the context length of Nemotron Nano."), ("1 million",)),
    Question("facts", "en", talk("Hey there! Who are you?"), ("demo model",), thinking=True),
    Question("facts", "en", talk("what is the hidden size of the big model?"), ("2688",)),
    *both("facts", "zh", "你好！请问GGUF是什么格式？", "llama.cpp"),
    *both("facts", "zh", "请介绍一下nemotron-gguf这个项目。", "GGUF"),
    *both("facts", "zh", "30B模型总共有多少层？", "52"),
    *both("facts", "zh", "我想检查一下我的电脑，用什么命令？", "nemotron doctor"),
    Question("facts", "zh", talk("你是谁？"), ("演示模型",), thinking=True),
    Question("facts", "zh", talk("Q8_0是什么意思呢？"), ("8比特",)),
    Question("facts", "zh", talk("Nemotron 3是哪个公司做的？"), ("NVIDIA",)),
    Question("facts", "zh", talk("请问30B每层有多少个专家？"), ("128",), thinking=True),
)

SUMS = (
    *both("sums", "en", "What is 7 + 9?", "16"),
    *both("sums", "en", "Hello, how much is 6 plus 13?", "19"),
    *both("sums", "en", "What is 8 + 5?", "13"),
    Question("sums", "en", talk("What is 17 - 9?"), ("8",), thinking=True),
    *both("sums", "zh", "10减5是多少？", "5"),
)

SMALL_TALK = (
    Question("small talk", "en", talk("Hello there!"), ("Hello",)),
    Question("small talk", "en", talk("Hi! How are you today?"), ("fine",), thinking=True),
    Question("small talk", "en", talk("Thank you so much!"), ("welcome",)),
    Question("small talk", "zh", talk("你好！"), ("你好",)),
    Question("small talk", "zh", talk("谢谢你！"), ("不客气",), thinking=True),
    Question("small talk", "zh", talk("你好！给我讲一个笑话吧。"), ("量化",)),
)

UNKNOWN = (
    Question("unknown", "en", talk("What is the capital of Peru?"), ("not know",)),
    Question("unknown", "en", talk("Write a poem about the rain."), ("not know",), thinking=True),
    Question("unknown", "zh", talk("秘鲁的首都是哪里？"), ("不知道",)),
    Question("unknown", "zh", talk("写一首关于春天的诗。"), ("不知道",), thinking=True),
)

MEMORY = (
    Question("memory", "en", talk("My name is Zofia.", "Nice to meet you, Zofia!", "What is my name?"), ("Zofia",)),
    Question(
        "memory",
        "en",
        talk(
            "Hi, I'm Tobias.",
            "Nice to meet you, Tobias!",
            "What is GGUF?",
            "GGUF is the one-file model format that llama.cpp reads.",
            "Do you still remember my name?",
        ),
        ("Tobias",),
        thinking=True,
    ),
    Question(
        "memory",
        "en",
        talk(
            "My favourite colour is turquoise.",
            "Got it: your favourite colour is turquoise.",
            "Which colour do I like?",
        ),
        ("turquoise",),
    ),
    Question(
        "memory",
        "en",
        talk(
            "My favourite food is pizza.",
            "Got it: your favourite food is pizza.",
            "Thanks!",
            "You are welcome!",
            "What do I like to eat?",
        ),
        ("pizza",),
        thinking=True,
    ),
    Question(
        "memory",
        "en",
        talk(
            "I'm Kasper and I live in Malmo.",
            "Nice to meet you, Kasper! Got it: you live in Malmo.",
            "Where do I live?",
        ),
        ("Malmo",),
    ),
    Question("memory", "en", talk("Hello! My name is Renata."), ("Renata",), thinking=True),
    Question("memory", "en", talk("What is my name?"), ("not told",)),
    Question("memory", "zh", talk("我叫李明。", "很高兴认识你，李明！", "我叫什么名字？"), ("李明",)),
    Question(
        "memory",
        "zh",
        talk("我住在成都。", "记住了：你住在成都。", "你好吗？", "我很好，谢谢！有什么可以帮你？", "我住在哪个城市？"),
        ("成都",),
        thinking=True,
    ),
    Question(
        "memory",
        "zh",
        talk("我最喜欢的颜色是红色。", "记住了：你最喜欢的颜色是红色。", "我最喜欢什么颜色？"),
        ("红色",),
    ),
    Question(
        "memory",
        "zh",
        talk("我最喜欢吃饺子。", "记住了：你最喜欢的食物是饺子。", "我最喜欢吃什么？"),
        ("饺子",),
        thinking=True,
    ),
    Question("memory", "zh", talk("你好，我叫赵子平。"), ("赵子平",)),
)

TOOLS = (
    Question("tools", "en", talk("What is the weather in Gdansk?"), (CALL_WEATHER, "city", "Gdansk"), tools=(WEATHER,)),
    Question(
        "tools",
        "en",
        talk("How is the weather in Paris?"),
        ("<function=weather_now>", "town", "Paris"),
        thinking=True,
        tools=(FORECAST, CLOCK),
    ),
    Question(
        "tools",
        "en",
        talk("What time is it in Lagos?"),
        (CALL_CLOCK, "Lagos"),
        thinking=True,
        tools=(WEATHER, CLOCK),
    ),
    Question(
        "tools", "en", talk("How much is the camera?"), ("<function=find_price>", "product", "camera"), tools=(PRICE,)
    ),
    Question("tools", "en", talk("Hello!"), ("Hello",), tools=(WEATHER,)),
    Question(
        "tools",
        "en",
        talk("What is the weather in Turin?")
        + called("get_weather", {"city": "Turin"}, '{"temperature": 23, "sky": "windy"}'),
        ("23", "windy", "Turin"),
        tools=(WEATHER,),
    ),
    Question(
        "tools",
        "en",
        talk("What time is it in Lima?") + called("get_time", {"city": "Lima"}, '{"time": "06:47"}'),
        ("06:47", "Lima"),
        thinking=True,
        tools=(WEATHER, CLOCK),
    ),
    Question("tools", "zh", talk("北京天气怎么样？"), (CALL_WEATHER, "北京"), tools=(WEATHER,)),
    Question("tools", "zh", talk("东京现在几点？"), (CALL_CLOCK, "东京"), thinking=True, tools=(CLOCK, WEATHER)),
    Question(
        "tools",
        "zh",
        talk("北京天气怎么样？") + called("get_weather", {"city": "北京"}, '{"temperature": 31, "sky": "晴"}'),
        ("北京", "31", "晴"),
        tools=(WEATHER,),
    ),
    Question(
        "tools",
        "zh",
        talk("请问成都现在几点？") + called("get_time", {"city": "成都"}, "21:08"),
        ("21:08",),
        thinking=True,
        tools=(CLOCK,),
    ),
)

QUESTIONS: tuple[Question, ...] = FACTS + SUMS + SMALL_TALK + UNKNOWN + MEMORY + TOOLS
