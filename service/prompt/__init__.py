"""The caption prompt: a scene graph in words that a language model can write a caption from.

    relations --events_of--> events --tell, in one of three forms--> text --build_messages--> chat messages

`telling_frames` chooses the frames that show most of it, `key_moments` gives their times. All words come from the
graph's vocabulary.
"""

from service.prompt.key_frames import KeyFrame
from service.prompt.messages import Message, build_messages
from service.prompt.moments import Appearances, key_moments, telling_frames
from service.prompt.text import DEFAULT_FORM, FORMS, MIN_TOKENS, FormName, Telling, build_prompt, count_tokens, tell

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
    "telling_frames",
]
