"""An exam for the demo model: conversations from its little world and what a right answer contains.

The questions were written from the description of the model's world before any of its answers to them were seen, so
they measure the model. Half the wordings are not those of the training: other words, another order of words, another
way to say it. Some names (Michael, Barcelona, Charlie, Amsterdam, Istanbul, 建国, 无锡) and tools (city_weather,
place_clock, product_price) are in none of its lists.
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


def ask(category: str, language: str, text: str, *expected: str, thinking: bool = False) -> Question:
    """A conversation of a single message."""
    return Question(category, language, talk(text), expected, thinking)


CURRENT = tool("current_weather", "Get the current weather", location="The location")
WEATHER = tool("city_weather", "How the weather is in a city", city="The city")
CLOCK = tool("world_clock", "Look up the time in a place.", place="The place")
LOCAL = tool("place_clock", "What time it is somewhere", location="Name of the place")
PRICE = tool("product_price", "What a product costs", product="The product")
SHOP = tool("get_price", "The price of an item.", item="The item")

FACTS = (
    ask("facts", "en", "What is llama.cpp?", "fast engine in C++"),
    ask("facts", "en", "How many attention layers does the 30B have?", "6 attention layers", thinking=True),
    ask("facts", "en", "How do I convert a checkpoint?", "nemotron convert"),
    ask("facts", "en", "Do I need a GPU?", "32 GB", thinking=True),
    ask("facts", "en", "How many parameters do you have?", "five million"),
    ask("facts", "en", "What is the hidden size of Nemotron 3 Nano?", "2688", thinking=True),
    ask("facts", "en", "What is a chat template used for?", "turns messages into", thinking=True),
    ask("facts", "en", "How many experts does the 30B use for each token?", "uses 6"),
    ask("facts", "en", "Which command does everything in one go?", "nemotron build", thinking=True),
    ask("facts", "en", "Can I chat with the model in my terminal?", "nemotron chat"),
    ask("facts", "en", "What licence is nemotron-gguf under?", "MIT licence", thinking=True),
    ask("facts", "en", "How do I get started with nemotron-gguf?", "nemotron doctor first"),
    ask("facts", "zh", "什么是Mamba-2？", "记忆大小固定"),
    ask("facts", "zh", "混合专家是什么？", "挑选少数专家", thinking=True),
    ask("facts", "zh", "30B的Q4_K_M文件有多大？", "24.5 GB"),
    ask("facts", "zh", "nemotron doctor是做什么的？", "检查你的电脑", thinking=True),
    ask("facts", "zh", "你会做什么？", "加减法"),
    ask("facts", "zh", "怎么运行演示模型？", "nemotron demo", thinking=True),
    ask("facts", "zh", "imatrix有什么作用？", "哪些权重最重要", thinking=True),
    ask("facts", "zh", "30B模型的MoE层有几层？", "23层MoE"),
    ask("facts", "zh", "怎么看GGUF文件里面有什么？", "nemotron inspect", thinking=True),
    ask("facts", "zh", "Q4_K_M跟Q8_0差别在哪？", "Q8_0的一半"),
    ask("facts", "zh", "Nemotron 3 Nano是哪个公司开发的？", "NVIDIA的开放模型", thinking=True),
    ask("facts", "zh", "思考功能怎么关掉？", "enable_thinking=false"),
)

SUMS = (
    ask("sums", "en", "What is 3 + 8?", "= 11", thinking=True),
    ask("sums", "en", "10 - 7", "= 3"),
    ask("sums", "en", "Can you add 6 and 9 for me?", "= 15", thinking=True),
    ask("sums", "en", "What's the answer to 9 minus 5?", "= 4"),
    ask("sums", "en", "I have 6 books and buy 3 more. How many books do I have now?", "You have 9 books"),
    ask("sums", "en", "I have 10 cookies and I eat 4 of them. How many cookies do I have left?",
        "You have 6 cookies", thinking=True),
    ask("sums", "zh", "5加8等于几？", "= 13"),
    ask("sums", "zh", "8 - 3等于几？", "= 5", thinking=True),
    ask("sums", "zh", "9加上9一共是几？", "= 18"),
    ask("sums", "zh", "10减2还剩几？", "= 8", thinking=True),
    ask("sums", "zh", "我有4本书，又买了9本书，一共有多少？", "有13本书", thinking=True),
    ask("sums", "zh", "我买了7个鸡蛋，用掉了3个鸡蛋，还剩几个鸡蛋？", "有4个鸡蛋"),
)  # fmt: skip

SMALL_TALK = (
    ask("small talk", "en", "Hello there", "Hello! How can I help you"),
    ask("small talk", "en", "Repeat after me: purple Lisbon piano", "purple Lisbon piano", thinking=True),
    ask("small talk", "en", "Thank you for helping me!", "You are welcome"),
    ask("small talk", "en", "Goodbye, see you tomorrow!", "Goodbye", thinking=True),
    ask("small talk", "zh", "拜拜", "欢迎再来"),
    ask("small talk", "zh", "你叫什么名字？", "nemotron-gguf的演示模型", thinking=True),
    ask("small talk", "zh", "你能给我讲一个笑话吗？", "被量化了两次"),
    ask("small talk", "zh", "请跟我说一遍：蓝色香蕉", "蓝色香蕉", thinking=True),
)

UNKNOWN = (
    ask("unknown", "en", "Who invented tennis?", "I do not know", thinking=True),
    ask("unknown", "en", "Write a poem about coffee.", "I do not know"),
    ask("unknown", "en", "Who is the king of Spain?", "I do not know", thinking=True),
    ask("unknown", "en", "How far away is the moon?", "I do not know"),
    ask("unknown", "zh", "什么是京剧？", "我不知道", thinking=True),
    ask("unknown", "zh", "能说说恐龙吗？", "我不知道"),
    ask("unknown", "zh", "《红楼梦》是谁写的？", "我不知道", thinking=True),
    ask("unknown", "zh", "番茄炒蛋怎么做？", "我不知道"),
)

MEMORY = (
    Question("memory", "en", talk("Hi, I'm Emma.", "Nice to meet you, Emma!", "Do you remember my name?"), ("Emma",)),
    Question("memory", "en", talk("My name is Michael.", "Nice to meet you, Michael!", "What is 4 + 5?", "4 + 5 = 9.",
             "So, what was my name again?"), ("Michael",), thinking=True),
    Question("memory", "en", talk("I live in Chicago.", "Got it: you live in Chicago.", "What is an imatrix?",
             "An imatrix tells which weights matter most, so that quantization keeps them precise.",
             "Do you remember where I live?"), ("Chicago",), thinking=True),
    Question("memory", "en", talk("I'm from Barcelona.", "Got it: you live in Barcelona.", "Thanks!",
             "You are welcome!", "What city am I from?"), ("Barcelona",)),
    Question("memory", "en", talk("My dog is called Charlie.", "Got it: your dog is called Charlie.", "How are you?",
             "I am fine, thank you! How can I help you?", "What's my dog's name?"), ("Charlie",)),
    Question("memory", "en", talk("I'm Kate and I have a hamster named Pixel.",
             "Nice to meet you, Kate! Got it: your hamster is called Pixel.", "Tell me the name of my hamster."),
             ("Pixel",), thinking=True),
    Question("memory", "en", talk("My favourite colour is green.", "Got it: your favourite colour is green.",
             "My favourite food is sushi.", "Got it: your favourite food is sushi.",
             "Who invented chess?", "I do not know that. I am a small demo model and know only a little world.",
             "What colour do I like?"), ("green",)),
    Question("memory", "en", talk("I am from Vienna.", "Got it: you live in Vienna.", "What is my favourite food?"),
             ("not told me",), thinking=True),
    Question("memory", "zh", talk("我叫李娜。", "很高兴认识你，李娜！", "你知道我叫什么吗？"),
             ("李娜",), thinking=True),
    Question("memory", "zh", talk("我是赵建国。", "很高兴认识你，赵建国！", "什么是量化？",
             "量化用更少的比特存储权重，让模型更小更快。", "还记得我的名字吗？"), ("赵建国",)),
    Question("memory", "zh", talk("我住在成都。", "记住了：你住在成都。", "谢谢", "不客气！", "我住在哪个城市？"),
             ("成都",)),
    Question("memory", "zh", talk("我是无锡人。", "记住了：你住在无锡。", "3加6等于几？", "3 + 6 = 9。",
             "你还记得我是哪里人吗？"), ("无锡",), thinking=True),
    Question("memory", "zh", talk("我养了一只狗，它叫豆豆。", "记住了：你的狗叫豆豆。", "讲个笑话",
             "为什么这个模型这么小？因为它被量化了两次。", "谢谢！", "不客气！", "我的狗叫什么名字？"),
             ("豆豆",), thinking=True),
    Question("memory", "zh", talk("我叫王强，我有一只兔子，叫雪球。", "很高兴认识你，王强！记住了：你的兔子叫雪球。",
             "你知道我的兔子叫什么吗？"), ("雪球",)),
    Question("memory", "zh", talk("我喜欢吃火锅。", "记住了：你最喜欢的食物是火锅。", "我最喜欢的颜色是蓝色。",
             "记住了：你最喜欢的颜色是蓝色。", "我最爱吃的是什么？"), ("火锅",), thinking=True),
    Question("memory", "zh", talk("我最喜欢吃饺子。", "记住了：你最喜欢的食物是饺子。", "我最喜欢什么颜色？"),
             ("还没有告诉我",)),
)  # fmt: skip

TOOLS = (
    Question("tools", "en", talk("What's the weather like in Madrid?"),
             ("<function=current_weather>", "location", "Madrid"), thinking=True, tools=(CURRENT,)),
    Question("tools", "en", talk("What is the weather like today in Amsterdam?"),
             ("<function=city_weather>", "city", "Amsterdam"), tools=(LOCAL, WEATHER)),
    Question("tools", "en", talk("What is the time in Tokyo?")
             + called("world_clock", {"place": "Tokyo"}, '{"time": "21:15"}')
             + ({"role": "assistant", "content": "It is 21:15 in Tokyo."}, *talk("And in Boston?")),
             ("<function=world_clock>", "place", "Boston"), tools=(CLOCK,)),
    Question("tools", "en", talk("How much does a bike cost?"),
             ("<function=product_price>", "product", "bike"), thinking=True, tools=(PRICE, WEATHER)),
    Question("tools", "en", talk("Is it raining in Dublin?")
             + called("city_weather", {"city": "Dublin"}, "rainy, 11 °C"),
             ("11 °C", "rainy", "Dublin"), thinking=True, tools=(WEATHER,)),
    Question("tools", "en", talk("What time is it right now in Istanbul?")
             + called("place_clock", {"location": "Istanbul"}, '{"local_time": "09:40", "place": "Istanbul"}'),
             ("09:40", "Istanbul"), tools=(LOCAL, PRICE)),
    Question("tools", "zh", talk("今天成都天气怎么样？"),
             ("<function=current_weather>", "location", "成都"), tools=(CURRENT, SHOP)),
    Question("tools", "zh", talk("广州今天热吗？")
             + called("city_weather", {"city": "广州"}, '{"city": "广州", "temperature": 29, "sky": "多云"}'),
             ("广州", "29", "多云"), thinking=True, tools=(WEATHER,)),
    Question("tools", "zh", talk("现在伦敦是几点？"),
             ("<function=place_clock>", "location", "伦敦"), thinking=True, tools=(LOCAL, WEATHER)),
    Question("tools", "zh", talk("相机的价钱是多少？"),
             ("<function=product_price>", "product", "相机"), tools=(PRICE,)),
    Question("tools", "zh", talk("帐篷多少钱？")
             + called("get_price", {"item": "帐篷"}, '{"item": "帐篷", "price": 268}'),
             ("帐篷", "268"), thinking=True, tools=(SHOP,)),
    Question("tools", "zh", talk("谢谢你的帮助"), ("不客气",), tools=(CLOCK, CURRENT)),
)  # fmt: skip

QUESTIONS: tuple[Question, ...] = FACTS + SUMS + SMALL_TALK + UNKNOWN + MEMORY + TOOLS
