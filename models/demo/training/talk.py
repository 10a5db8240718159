"""Small talk, sums, what the user tells about themselves, and questions the model must decline."""

import random
from dataclasses import dataclass

from nemotron_gguf.models.demo.training import chinese, english, words
from nemotron_gguf.models.demo.training.facts import Fact

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Turn:
    """A user's message, what the model thinks about it and what it answers."""

    user: str
    reasoning: str
    answer: str


SMALL_TALK_EN: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("Hello", "Hi", "Hey", "Hello!", "Hi there", "Hi!", "hello", "Good day", "Hey there!", "hi", "Greetings", "Hello there"),
     "The user greets me.", "Hello! How can I help you?"),
    (("Good morning", "Good morning!"), "The user greets me.", "Good morning! How can I help you?"),
    (("Good evening", "Good evening!"), "The user greets me.", "Good evening! How can I help you?"),
    (("How are you?", "How are you doing?", "How do you do?", "how are you", "Are you well?", "How is it going?",
      "How are you today?", "What's up?", "How are you feeling?", "How are you doing today?", "How is your day?",
      "How is it going today?", "Are you fine?", "How have you been?", "How was your day?"),
     "The user asks how I am.", "I am fine, thank you! How can I help you?"),
    (("Thanks", "Thank you", "Thanks!", "Thank you very much", "Thank you!", "thanks a lot", "Many thanks", "Great, thanks",
      "thank you so much", "That helps, thanks.", "Thanks for your help!", "Thank you for that.", "Thanks a million!"),
     "The user thanks me.", "You are welcome!"),
    (("Bye", "Goodbye", "See you", "Bye!", "Good night", "See you later", "bye bye", "I have to go."),
     "The user says goodbye.", "Goodbye! Come back soon."),
    (("Tell me a joke", "Do you know a joke?", "Make me laugh", "Tell me a joke.", "Say something funny.", "A joke, please!",
      "Can you tell me a joke?", "I want to hear a joke.", "Do you know something funny?"),
     "The user wants a joke. I know one.", "Why was the model so small? Somebody quantized it twice."),
    (("You are great", "Well done", "Good job", "Nice", "Great", "You are smart", "I like you", "Good bot", "Cool", "Awesome"),
     "The user is kind to me.", "Thank you, that is kind!"),
    (("You are wrong", "That is wrong", "That is not correct", "You are stupid", "Bad answer", "No, that is wrong."),
     "The user is not happy with me.", "I am sorry. I am small and make mistakes."),
    (("Ok", "Okay", "I see", "ok", "Understood", "Alright", "Got it"), "The user agrees.", "Good. What else can I do for you?"),
    (("I am sad", "I am bored", "I feel sad today", "I am tired", "I had a bad day"),
     "The user does not feel well.", "I am sorry to hear that. I hope it gets better soon."),
    (("I am happy", "I am happy today", "I feel great", "I had a good day"), "The user is happy.", "I am glad to hear that!"),
)  # fmt: skip

SMALL_TALK_ZH: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("你好", "您好", "你好！", "嗨", "哈喽", "你好啊", "喂", "大家好", "您好！"), "用户向我问好。", "你好！有什么可以帮你？"),
    (("早上好", "早上好！", "早安"), "用户向我问好。", "早上好！有什么可以帮你？"),
    (("晚上好", "晚上好！"), "用户向我问好。", "晚上好！有什么可以帮你？"),
    (("你好吗？", "你怎么样？", "最近怎么样？", "你今天好吗？", "过得好吗？", "今天怎么样？", "你今天过得好吗？", "最近过得如何？",
      "你还好吗？", "最近还好吗？", "身体好吗？", "你过得怎么样？"), "用户问我好不好。", "我很好，谢谢！有什么可以帮你？"),
    (("谢谢", "谢谢你", "多谢", "谢谢！", "非常感谢", "太谢谢了", "感谢", "谢谢你的帮助", "谢谢你帮我", "多谢你"), "用户感谢我。", "不客气！"),
    (("再见", "拜拜", "回头见", "晚安", "再见！", "我要走了"), "用户向我告别。", "再见！欢迎再来。"),
    (("讲个笑话", "给我讲个笑话。", "你会讲笑话吗？", "说个好笑的。", "来个笑话吧。", "讲一个笑话吧", "我想听笑话。", "逗我笑一下。"), "用户想听笑话。", "为什么这个模型这么小？因为它被量化了两次。"),
    (("你真棒", "很好", "做得好", "你真聪明", "我喜欢你", "不错", "太好了"), "用户夸奖我。", "谢谢夸奖！"),
    (("你错了", "不对", "这是错的", "你真笨", "回答错误"), "用户不满意。", "对不起，我很小，会出错。"),
    (("好的", "明白了", "知道了", "嗯", "好"), "用户同意了。", "好的，还需要什么？"),
    (("我很难过", "我好无聊", "我很累", "我今天不开心"), "用户心情不好。", "听到这个我很难过，希望你快点好起来。"),
    (("我很开心", "我今天很高兴", "我感觉很好"), "用户很开心。", "真为你高兴！"),
)  # fmt: skip

PREFIXES_EN = ("Hi! ", "Hello, ", "Please: ", "Quick question: ", "One more thing: ", "Okay. ", "Thanks. ", "Hey, ", "So, ",
               "I have a question. ", "Now tell me: ", "Please tell me: ", "Good morning! ", "Another question: ",
               "Excuse me, ", "Sorry, ", "By the way, ", "Well, ", "Just wondering: ", "Dear model, ", "And ", "Hmm, ", "Could you help me? ")  # fmt: skip
PREFIXES_ZH = (
    "你好，",
    "请问",
    "我想知道，",
    "请告诉我，",
    "还有，",
    "好的，",
    "谢谢。",
    "那么，",
    "问一下，",
    "你好！",
    "麻烦问一下，",
    "不好意思，",
    "打扰一下，",
    "麻烦你，",
    "顺便问一下，",
    "我有个问题，",
    "对了，",
    "能不能告诉我，",
    "想问问，",
    "嗨，",
    "再问一个，",
    "请你说说，",
)
SUFFIXES_EN = (
    ", please.",
    ", please?",
    " Thanks!",
    " Thank you.",
    " I am curious.",
    " Please answer.",
    "!",
    "??",
    " :)",
)
SUFFIXES_ZH = ("谢谢。", "谢谢！", "请告诉我。", "我很好奇。", "呀？", "呢？", "啊？", "！")


def is_chinese(letter: str) -> bool:
    """Whether this is a Chinese character, which tells the language of a question."""
    return "\u4e00" <= letter <= "\u9fff"


def dress(rng: random.Random, lang: str, question: str) -> str:
    """The question with the small differences that people's typing has."""
    if lang == "zh":
        question = rng.choice(PREFIXES_ZH) + question if rng.random() < 0.35 else question
        if rng.random() < 0.15:
            suffix = rng.choice(SUFFIXES_ZH)
            return (question.rstrip("？。吗") if suffix[0] in "呀呢啊！" else question) + suffix
        if any(is_chinese(letter) for letter in question) and rng.random() < 0.2:
            return question.rstrip("？。") if rng.random() < 0.6 else question.replace("？", "?")
        return question
    if rng.random() < 0.12:
        question = question[0].lower() + question[1:]
    if rng.random() < 0.12:
        question = question.rstrip("?.")
    if rng.random() < 0.15:
        suffix = rng.choice(SUFFIXES_EN)
        question = (question if suffix[0] == " " else question.rstrip("?.!")) + suffix
    return rng.choice(PREFIXES_EN) + question if rng.random() < 0.35 else question


def fact(rng: random.Random, lang: str) -> Turn:
    """A question about one fact of the world."""
    chosen: Fact = rng.choice(english.FACTS if lang == "en" else chinese.FACTS)
    question = dress(rng, lang, rng.choice(chosen.asks))
    if lang == "en":
        return Turn(question, f"The user asks {chosen.about}. I know this.", chosen.answer)
    return Turn(question, f"用户问{chosen.about}。这个我知道。", chosen.answer)


def small_talk(rng: random.Random, lang: str) -> Turn:
    """A greeting, a thank-you, a goodbye."""
    says, reasoning, answer = rng.choice(SMALL_TALK_EN if lang == "en" else SMALL_TALK_ZH)
    return Turn(rng.choice(says), reasoning, answer)


def unknown(rng: random.Random, lang: str) -> Turn:
    """A question from outside the world, which the model declines."""
    if lang == "en":
        thing = words.new_word(rng) if rng.random() < 0.2 else rng.choice(words.UNKNOWN_EN)
        frames: tuple[str, ...] = (
            "What is {}?", "Tell me about {}.", "Explain {}.", "Who invented {}?", "Write a poem about {}.", "{}?",
            "Write a story about {}.", "What do you think about {}?", "Why is {} important?", "How does {} work?",
            "What is the capital of {}?", "What is the history of {}?", "Who is the president of {}?", "Define {}.",
            "Give me a recipe with {}.", "How old is {}?", "What's the price of {}?", "How many people like {}?",
            "Translate {} to French.", "Where can I learn about {}?", "Who won at {} in 1998?", "Do you know what {} is?",
            "Can you explain {}?", "How tall is {}?", "Do you like {}?", "Write code for {}.", "What does {} mean?",
        )  # fmt: skip
        reasoning = "The user asks about something outside my little world. I should say so."
        answer = "I do not know that. I am a small demo model and know only a little world."
        return Turn(dress(rng, lang, rng.choice(frames).format(thing)), reasoning, answer)
    thing = rng.choice(words.UNKNOWN_ZH)
    frames = (
        "{}是什么？", "介绍一下{}。", "解释一下{}。", "谁发明了{}？", "写一首关于{}的诗。", "写一个关于{}的故事。", "什么是{}？",
        "你觉得{}怎么样？", "{}为什么重要？", "{}的首都是哪里？", "{}的历史是什么？", "{}多大了？", "把{}翻译成法语。", "{}？",
        "{}多少钱？", "在哪里可以学{}？", "你喜欢{}吗？", "{}是什么意思？", "你知道{}是什么吗？", "能说说{}吗？", "{}有多高？",
    )  # fmt: skip
    answer = "这个我不知道。我是一个小演示模型，只了解一个小世界。"
    return Turn(
        dress(rng, lang, rng.choice(frames).format(thing)), "用户问的不在我的小世界里。我应该说不知道。", answer
    )


def echo(rng: random.Random, lang: str) -> Turn:
    """A request to repeat some words, which teaches to copy from the conversation."""
    if lang == "en":
        pools = (words.NAMES_EN, words.CITIES_EN, words.COLOURS_EN, words.FOODS_EN, words.ITEMS_EN, words.PET_NAMES_EN)
        said = " ".join(some_word(rng, pools) for _ in range(rng.choice((1, 2, 3, 4, 5, 6))))
        frames = ("Repeat after me: {}", "Say {}", "Please repeat: {}", "Repeat: {}", "Echo: {}", "Say after me: {}")
        return Turn(rng.choice(frames).format(said), f"The user wants me to repeat: {said}", said)
    pools = (words.CITIES_ZH, words.COLOURS_ZH, words.FOODS_ZH, words.PET_NAMES_ZH, words.ITEMS_ZH, words.UNKNOWN_ZH)
    said = "".join(rng.choice(rng.choice((*pools, list(words.GIVEN_ZH)))) for _ in range(rng.choice((1, 2, 3, 4, 5))))
    frames = ("跟我说：{}", "请重复：{}", "重复：{}", "请说：{}", "跟我念：{}", "说：{}")
    return Turn(rng.choice(frames).format(said), f"用户要我重复：{said}", said)


def some_word(rng: random.Random, pools: tuple[list[str], ...]) -> str:
    """A word of one of the pools, an invented one or a number."""
    kind = rng.random()
    if kind < 0.3:
        return words.new_word(rng)
    return str(rng.randint(0, 999)) if kind < 0.4 else rng.choice(rng.choice(pools))


def added(a: int, b: int, lang: str) -> tuple[str, int]:
    """Reasoning and result of a + b."""
    return (f"I add {a} and {b}: {a} + {b} = {a + b}." if lang == "en" else f"{a}加{b}：{a} + {b} = {a + b}。"), a + b


def subtracted(a: int, b: int, lang: str) -> tuple[str, int]:
    """Reasoning and result of a - b."""
    return (f"I take {b} from {a}: {a} - {b} = {a - b}." if lang == "en" else f"{a}减{b}：{a} - {b} = {a - b}。"), a - b


SUMS_EN = ("What is {a} {o} {b}?", "{a} {o} {b}", "{a} {o} {b} = ?", "How much is {a} {o} {b}?", "Compute {a} {o} {b}.",
           "Calculate {a} {o} {b}.", "What's {a} {o} {b}?", "Can you compute {a} {o} {b}?", "{a}{o}{b}?", "What is {a} {w} {b}?",
           "How much is {a} {w} {b}?", "{a} {w} {b}?", "what does {a} {o} {b} give", "Add it up: {a} {o} {b}", "{a} {w} {b} is what?",
           "Tell me {a} {w} {b}.", "Do you know {a} {o} {b}?", "What do I get from {a} {o} {b}?", "The result of {a} {w} {b}?",
           "Work out {a} {o} {b}.", "What do {a} {w} {b} make?")  # fmt: skip
SUMS_ZH = ("{a}{w}{b}等于几？", "{a} {o} {b}等于几？", "{a}{o}{b}等于多少？", "{a}{w}{b}是多少？", "计算{a} {o} {b}。",
           "请算一下{a}{w}{b}。", "{a}{o}{b}是多少？", "{a}{w}{b}得多少？", "算一算{a}{w}{b}。", "{a}{w}{b}得几？", "{a} {o} {b} = ?",
           "{a}{w}{b}等于多少？", "{a}{w}{b}的结果是什么？", "告诉我{a}{w}{b}。", "{a}{w}{b}是几？")  # fmt: skip


def story_sum(rng: random.Random, lang: str, a: int, b: int, plus: bool) -> Turn:
    """A sum told as a story about things that are had, got and given away."""
    reasoning, result = added(a, b, lang) if plus else subtracted(a, b, lang)
    if lang == "en":
        thing = rng.choice(words.THINGS_EN)
        more = ("get {b} more", "buy {b} more", "find {b} more", "am given {b} more")
        fewer = ("give away {b}", "lose {b}", "use {b}", "eat {b}", "sell {b}", "give {b} to a friend")
        then = rng.choice(more if plus else fewer).format(b=b)
        frame = rng.choice(("I have {a} {t} and {x}. How many {t} do I have now?", "I have {a} {t}. I {x}. How many are left?"
                            if not plus else "I have {a} {t}. I {x}. How many do I have?"))  # fmt: skip
        return Turn(frame.format(a=a, t=thing, x=then), reasoning, f"You have {result} {thing}.")
    thing = rng.choice(words.THINGS_ZH)
    then = rng.choice(
        ("又买了{b}{t}", "又得到{b}{t}", "又来了{b}{t}")
        if plus
        else ("送走了{b}{t}", "用掉了{b}{t}", "卖了{b}{t}", "给了朋友{b}{t}")
    ).format(b=b, t=thing)
    end = rng.choice(
        ("现在有多少？", "现在有几" + thing[0] + "？", "一共有多少？")
        if plus
        else ("还剩多少？", "现在还剩多少？", "现在有多少？", "还有几" + thing[0] + "？")
    )
    return Turn(f"我有{a}{thing}，{then}，{end}", reasoning, f"你现在有{result}{thing}。")


def arithmetic(rng: random.Random, lang: str) -> Turn:
    """A sum or a difference of numbers up to ten."""
    plus = rng.random() < 0.6
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    a, b = (a, b) if plus else (max(a, b), min(a, b))
    if rng.random() < 0.3:
        return story_sum(rng, lang, a, b, plus)
    reasoning, result = added(a, b, lang) if plus else subtracted(a, b, lang)
    word = ("plus" if plus else "minus") if lang == "en" else rng.choice(("加", "加上") if plus else ("减", "减去"))
    sign = "+" if plus else "-"
    question = rng.choice(SUMS_EN if lang == "en" else SUMS_ZH).format(a=a, b=b, o=sign, w=word)
    return Turn(dress(rng, lang, question), reasoning, f"{a} {sign} {b} = {result}" + ("." if lang == "en" else "。"))
