"""Templates are rendered as transformers' own `render_jinja_template` does, and cannot leave the sandbox."""

from collections.abc import Callable
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from models.sequence_classifier.chat_template import ChatTemplate, TemplateRefused

CONVERSATION = [
    {"role": "system", "content": 'Be <brief> & "kind".\n'},
    {"role": "user", "content": " Which shape?\n"},
    {"role": "assistant", "content": "The circle: ⑮ 3 × 5.\n\n"},
]
TEMPLATES = {
    "loop": "{{ bos_token }}{% for m in messages %}\n  {%- if m.role == 'system' %}\n[{{ m.content }}]\n"
    "    {% else %}\n{{ loop.index0 }}{{ m['content'] | trim }}{{ eos_token }}\n  {% endif %}\n{% endfor %}\n\n",
    "json": "{{ messages | tojson }}{{ messages | tojson(indent=2) }}"
    "{{ messages[0].content | tojson(ensure_ascii=True) }}",
    "controls": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
    "{{ m.content }}{% break %}{% endfor %}",
    "namespace": "{% set ns = namespace(last='', self=1) %}"
    "{% for m in messages %}{% set ns.last = m.role %}{% endfor %}{{ ns.last }}",
    "generation": "{% for m in messages %}{% generation %}\n{{ m.content }}{% endgeneration %}{% endfor %}|",
    "absent": "{{ tools is none }}{{ documents is defined }}"
    "{{ add_generation_prompt }}{{ never is defined }}{{ never }}",
    "dict": "{{ dict(a=1) | tojson }}{{ dict([('b', 2)]) }}{{ dict.fromkeys('ab') }}"
    "{{ messages[-1].get('content').strip().split(' ')[0] }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_gives_the_text_that_transformers_renders(name: str) -> None:
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    render: Callable[..., Any] = render_jinja_template
    (expected,), _ = render(
        conversations=[CONVERSATION], chat_template=TEMPLATES[name], add_generation_prompt=False, **special
    )
    assert ChatTemplate(TEMPLATES[name], special).render(CONVERSATION) == expected


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[9].content }}", "has no element 9"),
        ("{{ 1 // 0 }}", "zero"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ ''.__class__.__init__.__globals__ }}", "unsafe"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "__class__"),
        ("{% set ns = namespace(__init__=1) %}", "__init__"),
        ("{{ dict.__subclasses__() }}", "no attribute"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ raise_exception('long ' * 1000) }}", " …"),
    ],
)
def test_what_a_template_refuses_or_may_not_do_is_told(template: str, says: str) -> None:
    with pytest.raises(TemplateRefused) as raised:
        ChatTemplate(template, {}).render(CONVERSATION)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_no_messages_and_no_template_are_refused() -> None:
    with pytest.raises(TemplateRefused, match="empty"):
        ChatTemplate("fine", {}).render([])
    with pytest.raises(TemplateRefused, match="tag"):
        ChatTemplate("{% nothing of the kind %}", {})


def test_the_date_is_that_of_the_day_on_which_the_template_was_read() -> None:
    template = ChatTemplate("{{ strftime_now('%Y %H:%M:%S.%f') }}", {})
    assert template.render(CONVERSATION) == template.render(CONVERSATION)
    assert template.render(CONVERSATION).startswith("20")
