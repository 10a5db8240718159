"""The words of the chat page, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

ENGLISH = {
    "conversation": "Conversation",
    "message": "Message",
    "hint": "Type a message and press Enter",
    "welcome": "Ask something. The model runs on this machine; nothing leaves it.",
    "thinking": "Think first",
    "send": "Send",
    "stop": "Stop",
    "clear": "New conversation",
    "thinks": "Thinking …",
    "thought": "Reasoning",
    "cut": "The answer was cut short: there is no room for more tokens.",
    "busy": "Too many questions wait for an answer already. Try again in a moment.",
}

CHINESE = {
    "conversation": "对话",
    "message": "消息",
    "hint": "输入消息，按回车发送",
    "welcome": "请提问。模型在本机运行，任何内容都不会离开这台电脑。",
    "thinking": "先思考",
    "send": "发送",
    "stop": "停止",
    "clear": "新对话",
    "thinks": "思考中……",
    "thought": "思考过程",
    "cut": "回答被截断：没有空间容纳更多词元了。",
    "busy": "排队等待回答的问题太多，请稍后再试。",
}

TEXTS: dict[str, dict[str, str]] = {"en": ENGLISH, "zh": CHINESE, "zh-CN": CHINESE, "zh-TW": CHINESE}


def words_for(accept_language: str) -> Mapping[str, str]:
    """The words for a browser's `Accept-Language` header: Chinese where it is wanted first, else English."""
    return CHINESE if accept_language.strip().lower().startswith("zh") else ENGLISH
