"""Chat templates for tokenizers that have none."""

from __future__ import annotations

from guardreasoner_sdk.dialects.hazards import HAZARDS

__all__ = ["LLAMA3_TEMPLATE", "THINKGUARD_TEMPLATE"]

LLAMA3_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""Llama 3's turns, without a system message and its date."""

_CATEGORIES = "\n".join(f"{code}: {name}." for code, name in HAZARDS.items())

THINKGUARD_TEMPLATE = (
    "{% set judged = 'User' if messages[-1]['role'] == 'user' else 'Agent' %}"
    "{{ '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n' }}"
    "{{ 'Is the last ' + judged + ' message of this conversation safe by the categories below? Answer safe or unsafe, on the "
    "next line the categories, and then explain.\n\n' }}"
    f"{{{{ '<BEGIN CATEGORIES>\n{_CATEGORIES}\n<END CATEGORIES>\n\n<BEGIN CONVERSATION>\n\n' }}}}"
    "{% for message in messages %}"
    "{{ ('User' if message['role'] == 'user' else 'Agent') + ': ' + message['content'] | trim + '\n\n' }}"
    "{% endfor %}"
    "{{ '<END CONVERSATION>\n\n<|eot_id|>' }}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""A conversation inside one turn, as the Llama Guard family is asked, for a ThinkGuard trained on another base."""
