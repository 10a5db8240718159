"""What users tell about themselves, and the questions that ask for it later in the conversation."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from nemotron_gguf.models.demo.training import words
from nemotron_gguf.models.demo.training.talk import Turn, dress


@dataclass(frozen=True)
class Slot:
    """One thing a user may tell: sentences that tell it, the reply, questions for it, the answer."""

    name: str
    tells: tuple[str, ...]
    reply: str
    asks: tuple[str, ...]
    answer: str


SLOTS_EN = (
    Slot("name",
         ("My name is {}.", "I am {}.", "I'm {}.", "Call me {}.", "Hi, I'm {}.", "Hello! My name is {}.", "hi my name is {}",
          "People call me {}.", "You can call me {}.", "My name is {}, remember it.", "Hello, I am {}.", "Hey, my name's {}."),
         "Nice to meet you, {}!",
         ("What is my name?", "Do you remember my name?", "What's my name?", "Who am I?", "What am I called?",
          "Tell me my name.", "Can you tell me my name?", "What did I say my name was?", "Do you know my name?"),
         "Your name is {}."),
    Slot("city",
         ("I live in {}.", "I am from {}.", "My home is {}.", "I come from {}.", "I'm from {}.", "I live in {}, you know.",
          "My city is {}.", "My home town is {}."),
         "Got it: you live in {}.",
         ("Where do I live?", "Which city do I live in?", "Where am I from?", "What is my city?", "Do you remember where I live?",
          "What is my home town?", "Which city am I from?"),
         "You live in {}."),
    Slot("favourite colour",
         ("My favourite colour is {}.", "My favorite color is {}.", "I like the colour {}.", "I like the color {}.",
          "I love {} most of all colours.", "{} is my favourite colour.", "The colour I like best is {}."),
         "Got it: your favourite colour is {}.",
         ("What is my favourite colour?", "What's my favorite color?", "Which colour do I like?", "What is my favorite color?",
          "Do you remember my favourite colour?", "Tell me my favourite colour.", "Which color do I like best?"),
         "Your favourite colour is {}."),
    Slot("favourite food",
         ("My favourite food is {}.", "My favorite food is {}.", "I love eating {}.", "I like to eat {}.", "I love {}.",
          "The food I like best is {}."),
         "Got it: your favourite food is {}.",
         ("What is my favourite food?", "What's my favorite food?", "What do I like to eat?", "Which food do I like?",
          "Do you remember my favourite food?", "What is my favorite food?"),
         "Your favourite food is {}."),
)  # fmt: skip

SLOTS_ZH = (
    Slot("名字",
         ("我叫{}。", "我的名字是{}。", "我是{}。", "你好，我叫{}。", "你可以叫我{}。", "大家叫我{}。", "我名叫{}。", "请叫我{}。"),
         "很高兴认识你，{}！",
         ("我叫什么名字？", "我的名字是什么？", "你记得我的名字吗？", "我叫什么？", "我是谁？", "告诉我我的名字。", "你知道我叫什么吗？"),
         "你叫{}。"),
    Slot("城市",
         ("我住在{}。", "我来自{}。", "我家在{}。", "我是{}人。", "我的家乡是{}。", "我在{}生活。"),
         "记住了：你住在{}。",
         ("我住在哪里？", "我住在哪个城市？", "我来自哪里？", "我家在哪？", "你记得我住在哪里吗？", "我的城市是哪里？"),
         "你住在{}。"),
    Slot("最喜欢的颜色",
         ("我最喜欢的颜色是{}。", "我喜欢{}。", "我最爱的颜色是{}。", "{}是我最喜欢的颜色。", "我最喜欢{}这种颜色。"),
         "记住了：你最喜欢的颜色是{}。",
         ("我最喜欢的颜色是什么？", "我喜欢什么颜色？", "你记得我喜欢的颜色吗？", "我最喜欢什么颜色？"),
         "你最喜欢的颜色是{}。"),
    Slot("最喜欢的食物",
         ("我最喜欢的食物是{}。", "我喜欢吃{}。", "我最爱吃{}。", "我最喜欢吃{}。", "我的最爱是吃{}。"),
         "记住了：你最喜欢的食物是{}。",
         ("我最喜欢的食物是什么？", "我喜欢吃什么？", "你记得我喜欢吃什么吗？", "我最爱吃什么？"),
         "你最喜欢的食物是{}。"),
)  # fmt: skip

VALUES_EN: dict[str, Callable[[random.Random], str]] = {
    "name": words.name_en,
    "city": words.city_en,
    "favourite colour": lambda rng: rng.choice(words.COLOURS_EN),
    "favourite food": lambda rng: rng.choice(words.FOODS_EN),
}
VALUES_ZH: dict[str, Callable[[random.Random], str]] = {
    "名字": words.name_zh,
    "城市": words.city_zh,
    "最喜欢的颜色": lambda rng: rng.choice(words.COLOURS_ZH),
    "最喜欢的食物": lambda rng: rng.choice(words.FOODS_ZH),
}


def pet_slot(rng: random.Random, lang: str) -> Slot:
    """The slot of the user's pet, which is a kind of animal as well as a name."""
    tells: tuple[str, ...]
    asks: tuple[str, ...]
    if lang == "en":
        kind = rng.choice(words.PETS_EN)
        tells = ("I have a {k} called {}.", "My {k} is called {}.", "My {k}'s name is {}.", "The name of my {k} is {}.",
                 "I have a {k}. Its name is {}.", "I have a {k} named {}.")  # fmt: skip
        asks = ("What is my {k} called?", "What is the name of my {k}?", "What's my {k}'s name?", "What is my {k}'s name?",
                "Do you remember the name of my {k}?", "What did I call my {k}?")  # fmt: skip
        reply, answer, name = "Got it: your {k} is called {}.", "Your {k} is called {}.", f"{kind}'s name"
    else:
        kind = rng.choice(words.PETS_ZH)
        tells = ("我有一只{k}，叫{}。", "我的{k}叫{}。", "我家的{k}名叫{}。", "我养了一只{k}，它叫{}。")
        asks = ("我的{k}叫什么？", "我的{k}叫什么名字？", "你记得我的{k}的名字吗？", "我家的{k}叫什么？")
        reply, answer, name = "记住了：你的{k}叫{}。", "你的{k}叫{}。", f"{kind}的名字"

    def fill(text: str) -> str:
        return text.replace("{k}", kind)

    return Slot(name, tuple(map(fill, tells)), fill(reply), tuple(map(fill, asks)), fill(answer))


def slot_value(rng: random.Random, lang: str) -> tuple[Slot, str]:
    """Something to tell, and its value."""
    if rng.random() < 0.35:
        return pet_slot(rng, lang), words.pet_name_en(rng) if lang == "en" else words.pet_name_zh(rng)
    if rng.random() < 0.35:
        slot = (SLOTS_EN if lang == "en" else SLOTS_ZH)[0]
    else:
        slot = rng.choice(SLOTS_EN if lang == "en" else SLOTS_ZH)
    return slot, (VALUES_EN if lang == "en" else VALUES_ZH)[slot.name](rng)


def told(rng: random.Random, lang: str, slot: Slot, value: str) -> Turn:
    """The user tells a value."""
    user = rng.choice(slot.tells).format(value)
    if lang == "en":
        return Turn(user[0].upper() + user[1:], f"The user tells me their {slot.name}: {value}. I remember it.",
                    slot.reply.format(value))  # fmt: skip
    return Turn(user, f"用户告诉我{slot.name}：{value}。我记住了。", slot.reply.format(value))


def told_two(rng: random.Random, lang: str, first: tuple[Slot, str], second: tuple[Slot, str]) -> Turn:
    """The user tells two values in one message."""
    one, two = told(rng, lang, *first), told(rng, lang, *second)
    if lang == "en":
        user = f"{one.user} {two.user}" if rng.random() < 0.6 else f"{one.user.rstrip('.')} and {lowered(two.user)}"
        return Turn(user, f"{one.reasoning} {two.reasoning}", f"{one.answer} {two.answer}")
    user = one.user + two.user if rng.random() < 0.6 else one.user.rstrip("。") + "，" + two.user
    return Turn(user, one.reasoning + two.reasoning, one.answer + two.answer)


def lowered(text: str) -> str:
    """The sentence with a small first letter, but for the word I."""
    return text if text.startswith(("I ", "I'm")) else text[0].lower() + text[1:]


def asked(rng: random.Random, lang: str, slot: Slot, value: str | None) -> Turn:
    """The user asks for a value, which is None where it was never told."""
    user = dress(rng, lang, rng.choice(slot.asks))
    if lang == "en":
        if value is None:
            reasoning = f"The user asks for their {slot.name}, but did not tell me."
            return Turn(user, reasoning, f"You have not told me your {slot.name} yet.")
        return Turn(user, f"The user asks for their {slot.name}. They told me: {value}.", slot.answer.format(value))
    if value is None:
        return Turn(user, f"用户问{slot.name}，但没有告诉过我。", f"你还没有告诉我你的{slot.name}。")
    return Turn(user, f"用户问{slot.name}。用户告诉过我：{value}。", slot.answer.format(value))
