# SPDX-License-Identifier: Apache-2.0
"""A few fixed exchanges, so that a greeting or a stray question gets a sensible line."""

from .example import Example

GREETINGS = ("Hello", "Hi", "Hi there", "Good morning", "Hey", "Hello!", "Hello there", "Good evening")
ABILITIES = ("What can you do?", "Who are you?", "Help", "How can you help me?", "What are you?", "What is this?")
STRAY = (
    "What is the capital of France?", "Write a poem.", "Tell me a joke.", "What is two plus two?",
    "Who won the match?", "Translate this into Spanish.", "How is the weather today?", "Write some Python code.",
    "Explain gravity.", "What time is it?", "Tell me about history.", "Who wrote this book?",
)
THANKS = ("Thanks", "Thank you", "Thank you!", "Thanks a lot", "Great, thanks")
DESCRIPTION = "I can recommend an item, write a blurb, judge a review or extract attributes as JSON."


def make(rng, catalog, held_out):
    """Returns one exchange of small talk; it has no held-out side."""
    if held_out:
        return None
    questions, answers = rng.choice((
        (GREETINGS, (f"Hello! {DESCRIPTION}", f"Hello, welcome to the shop. {DESCRIPTION}")),
        (ABILITIES, (f"I am a small model for an online shop. {DESCRIPTION}",)),
        (STRAY, (f"I only know the shop. {DESCRIPTION}", f"That is outside my shop. {DESCRIPTION}")),
        (THANKS, ("You are welcome.", "With pleasure.")),
    ))
    return Example("talk", rng.choice(questions), rng.choice(answers), "talk")
