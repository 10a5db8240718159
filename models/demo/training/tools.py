"""Conversations that call a tool: the weather, the clock and prices, under many names."""

import json
import random
from dataclasses import dataclass
from typing import Any

from nemotron_gguf.models.demo.training import words
from nemotron_gguf.models.demo.training.talk import dress

Message = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """Tools that do the same under different names, and how users ask for it."""

    names: tuple[str, ...]
    keys: tuple[str, ...]
    descriptions: tuple[str, ...]
    asks_en: tuple[str, ...]
    asks_zh: tuple[str, ...]
    wish_en: str
    wish_zh: str


WEATHER = Family(
    ("get_weather", "weather", "current_weather", "get_current_weather", "weather_lookup", "fetch_weather", "weather_now"),
    ("city", "location", "place", "town", "city_name"),
    ("The weather of a city.", "Get the current weather", "Returns the weather now", "Look up the weather in a place.",
     "Get the current weather for a location.", "查询天气"),
    ("What is the weather in {}?", "How is the weather in {}?", "What's the weather like in {}?", "Is it sunny in {}?",
     "Weather in {}?", "Is it raining in {}?", "How warm is it in {}?", "Tell me the weather in {}.", "Is it cold in {} now?",
     "Check the weather in {}.", "What is the temperature in {}?", "I am going to {}. How is the weather there?",
     "Could you look up the weather in {}?", "I want to know the weather in {}.", "What will I need in {}, a coat or a hat?",
     "Can you check the weather in {} for me?", "How are the skies over {}?", "Is it warm in {} today?",
     "Please find out the weather in {}.", "I would like to know how the weather is in {}."),
    ("{}天气怎么样？", "{}的天气如何？", "今天{}天气怎么样？", "{}现在下雨吗？", "{}多少度？", "查一下{}的天气。", "{}冷吗？",
     "{}现在天气好吗？", "告诉我{}的天气。", "帮我看看{}的天气。", "我想知道{}的天气。", "请查查{}今天的天气。", "{}热不热？",
     "我要去{}，那里天气怎么样？", "能查一下{}的天气吗？", "帮我查{}现在的天气。"),
    "the weather in {}", "{}的天气",
)  # fmt: skip
CLOCK = Family(
    ("get_time", "clock", "current_time", "get_current_time", "world_clock", "local_time", "time_now"),
    ("city", "location", "place", "timezone", "city_name"),
    ("The time in a city.", "Get the current time", "Returns the local time", "Look up the time in a place.", "查询时间"),
    ("What time is it in {}?", "What is the time in {}?", "How late is it in {}?", "Time in {}?", "Tell me the time in {}.",
     "Do you know what time it is in {}?", "What's the local time in {}?", "Check the clock in {}.",
     "Could you tell me the time in {}?", "I want to know what time it is in {}.", "Is it late in {}?",
     "Can you look up the time in {} for me?", "I would like to know the time in {}.", "Please check the time in {}."),
    ("{}现在几点？", "{}几点了？", "{}现在是什么时间？", "告诉我{}的时间。", "查一下{}的时间。", "请问{}现在几点？", "帮我看看{}几点了。", "我想知道{}现在几点。", "能查一下{}的时间吗？", "{}那边几点？",
     "{}当地时间是多少？"),
    "the time in {}", "{}的时间",
)  # fmt: skip
PRICE = Family(
    ("get_price", "price", "lookup_price", "price_of", "find_price", "shop_price"),
    ("item", "product", "name", "thing"),
    ("The price of an item.", "Get the price of a product", "Returns the price", "Look up what something costs.", "查询价格"),
    ("How much is the {}?", "What does the {} cost?", "What is the price of the {}?", "Price of the {}?",
     "Tell me the price of the {}.", "How much does the {} cost?", "I want to know how much the {} is.",
     "Could you look up the price of the {}?", "I would like to buy the {}. How much is it?", "Can you check what the {} costs?",
     "Please find the price of the {}.", "What do I pay for the {}?", "Is the {} expensive?"),
    ("{}多少钱？", "{}的价格是多少？", "查一下{}的价格。", "{}要多少钱？", "告诉我{}的价格。", "帮我查查{}的价格。", "我想知道{}多少钱。", "我想买{}，多少钱？", "{}贵吗？",
     "能查一下{}的价格吗？", "{}卖多少钱？"),
    "the price of {}", "{}的价格",
)  # fmt: skip
FAMILIES = (WEATHER, CLOCK, PRICE)


VERBS = ("get", "fetch", "find", "check", "lookup", "read", "show", "query", "tell", "ask", "my")
ENDINGS = ("now", "report", "info", "tool", "lookup", "check", "service", "api", "v2", "today")
NOUNS = (("weather", "forecast", "temperature"), ("time", "clock", "hour"), ("price", "cost", "shop"))
KEYS = (
    ("city", "location", "place", "town", "where", "city_name", "area"),
    ("item", "product", "name", "thing", "article"),
)


def tool_name(rng: random.Random, family: Family) -> str:
    """One of the family's names, or one put together."""
    if rng.random() < 0.4:
        return rng.choice(family.names)
    noun = rng.choice(NOUNS[FAMILIES.index(family)])
    parts = [rng.choice(VERBS)] if rng.random() < 0.6 else []
    parts.append(noun)
    if len(parts) == 1 or rng.random() < 0.3:
        parts.append(rng.choice(ENDINGS))
    return "_".join(parts)


def parameter(rng: random.Random, key: str) -> Message:
    """The JSON schema of one parameter, as carefully or carelessly as people write it."""
    schema: Message = {"type": "string"}
    if rng.random() < 0.4:
        schema["description"] = rng.choice((f"The {key}", f"Name of the {key}", "e.g. Paris", None))
    return schema


def definition(rng: random.Random, family: Family) -> tuple[Message, str, str]:
    """A tool of the family in OpenAI's form, its name and its main parameter."""
    name, key = tool_name(rng, family), rng.choice((*family.keys, *KEYS[family is PRICE]))
    properties = {key: parameter(rng, key)}
    if family is WEATHER and rng.random() < 0.3:
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    function: Message = {"name": name, "parameters": {"type": "object", "properties": properties}}
    if rng.random() < 0.85:
        function["description"] = rng.choice(family.descriptions)
    if rng.random() < 0.75:
        function["parameters"]["required"] = [key]
    return {"type": "function", "function": function}, name, key


def weather_result(rng: random.Random, lang: str, place: str) -> tuple[str, str, str]:
    """What the tool returns, the reasoning about it, and the answer."""
    degrees, (sky, himmel) = rng.randint(-12, 38), rng.choice(words.SKIES)
    shown = sky if lang == "en" or rng.random() < 0.4 else himmel
    result = rng.choice((
        json.dumps({"city": place, "temperature": degrees, "sky": shown}, ensure_ascii=False),
        json.dumps({"temp_c": degrees, "condition": shown}, ensure_ascii=False),
        json.dumps({"temperature": degrees, "conditions": shown, "humidity": rng.randint(20, 95)}, ensure_ascii=False),
        json.dumps({"location": place, "condition": shown, "temperature_c": degrees}, ensure_ascii=False),
        f"{degrees}°C, {shown}", f"{shown}, {degrees} °C", f"{place}: {shown}, {degrees} degrees",
    ))  # fmt: skip
    if lang == "en":
        return result, f"The tool says {degrees} degrees and {sky}.", f"It is {degrees} °C and {sky} in {place}."
    return result, f"工具说{degrees}度，{himmel}。", f"{place}现在{degrees}度，{himmel}。"


def clock_result(rng: random.Random, lang: str, place: str) -> tuple[str, str, str]:
    """What the tool returns, the reasoning about it, and the answer."""
    time = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    result = rng.choice((
        json.dumps({"time": time}), json.dumps({"city": place, "time": time}, ensure_ascii=False), time,
        json.dumps({"local_time": time, "place": place}, ensure_ascii=False),
    ))  # fmt: skip
    if lang == "en":
        return result, f"The tool says {time}.", f"It is {time} in {place}."
    return result, f"工具说{time}。", f"{place}现在是{time}。"


def price_result(rng: random.Random, lang: str, item: str) -> tuple[str, str, str]:
    """What the tool returns, the reasoning about it, and the answer."""
    price = rng.randint(2, 999)
    result = rng.choice((
        json.dumps({"price": price}), json.dumps({"item": item, "price": price}, ensure_ascii=False), str(price),
    ))  # fmt: skip
    if lang == "en":
        return result, f"The tool says {price}.", f"The {item} costs {price}."
    return result, f"工具说{price}。", f"{item}的价格是{price}。"


RESULTS = (weather_result, clock_result, price_result)


def call_and_answer(rng: random.Random, lang: str, which: int, name: str, key: str, again: bool) -> list[Message]:
    """A question, the call, the tool's result and the answer; `again` asks briefly for one place more."""
    family = FAMILIES[which]
    if family is PRICE:
        place = rng.choice(words.ITEMS_EN if lang == "en" else words.ITEMS_ZH)
    else:
        place = words.city_en(rng) if lang == "en" else words.city_zh(rng)
    result, seen, answer = RESULTS[which](rng, lang, place)
    if rng.random() < 0.05:
        result = rng.choice(('{"error": "not found"}', "error: not found"))
        seen = "The tool found nothing." if lang == "en" else "工具没有找到。"
        answer = f"Sorry, the tool found nothing for {place}." if lang == "en" else f"抱歉，工具没有找到{place}。"
    if lang == "en":
        frame = rng.choice(("And in {}?", "And {}?", "What about {}?")) if again else rng.choice(family.asks_en)
        thought = f"The user wants {family.wish_en.format(place)}. I call {name}."
    else:
        frame = rng.choice(("那{}呢？", "{}呢？")) if again else rng.choice(family.asks_zh)
        thought = f"用户想知道{family.wish_zh.format(place)}。我调用{name}。"
    call = {"type": "function", "function": {"name": name, "arguments": {key: place}}}
    return [
        {"role": "user", "content": dress(rng, lang, frame.format(place))},
        {"role": "assistant", "content": "", "reasoning_content": thought, "tool_calls": [call]},
        {"role": "tool", "content": result},
        {"role": "assistant", "content": answer, "reasoning_content": seen},
    ]
