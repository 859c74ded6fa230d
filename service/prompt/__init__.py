"""The caption prompt: a scene graph in sentences that a language model can write a caption from."""

from service.prompt.messages import KeyFrame, Message, build_messages
from service.prompt.moments import key_moments
from service.prompt.sentences import MIN_TOKENS, Appearances, build_prompt, count_tokens

__all__ = [
    "MIN_TOKENS",
    "Appearances",
    "KeyFrame",
    "Message",
    "build_messages",
    "build_prompt",
    "count_tokens",
    "key_moments",
]
