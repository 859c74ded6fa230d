"""The caption prompt: a scene graph in words that a language model can write a caption from.

    relations --events_of--> events --tell, in one of three forms--> text --build_messages--> chat messages

`key_moments` says which frames show most of it.
"""

from service.prompt.appearances import Appearances
from service.prompt.forms import DEFAULT_FORM, FORMS, FormName
from service.prompt.messages import KeyFrame, Message, build_messages
from service.prompt.moments import key_moments
from service.prompt.text import MIN_TOKENS, Telling, build_prompt, tell
from service.prompt.tokens import count_tokens

__all__ = [
    "DEFAULT_FORM",
    "FORMS",
    "MIN_TOKENS",
    "Appearances",
    "FormName",
    "KeyFrame",
    "Message",
    "Telling",
    "build_messages",
    "build_prompt",
    "count_tokens",
    "key_moments",
    "tell",
]
