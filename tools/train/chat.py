# SPDX-License-Identifier: Apache-2.0
"""ChatML: the template shipped with the tokenizer and the same rendering in Python."""

START, END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def render_turn(message):
    """One message as text."""
    return f"{START}{message['role']}\n{message['content']}{END}\n"


def render_prompt(messages):
    """A whole prompt, ready for the assistant to continue."""
    return "".join(map(render_turn, messages)) + f"{START}assistant\n"
