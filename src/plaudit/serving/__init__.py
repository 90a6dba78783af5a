"""Use of trained models: chat, generated texts and scores."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.serving.chat_model import ChatModel, ChatSettings
    from plaudit.serving.conversation import Conversation
    from plaudit.serving.targets import Target, find_target, open_chat_model

__all__ = ["ChatModel", "ChatSettings", "Conversation", "Target", "find_target", "open_chat_model"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "chat_model": ["ChatModel", "ChatSettings"],
        "conversation": ["Conversation"],
        "targets": ["Target", "find_target", "open_chat_model"],
    },
)
