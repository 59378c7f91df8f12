"""Chat templates in the manner of each family, written for the tests, and what to ask of them."""

from typing import Any

from firefront.core.chat import Tool
from firefront.text.vocab import AddedToken

CHATML = """
{%- macro turn(role, text) %}
    {{- '<|im_start|>' + role + '\\n' + text + '<|im_end|>\\n' }}
{%- endmacro %}
"""

HERMES = CHATML + """
{%- if tools %}
    {%- set ns = namespace(text='Functions:') %}
    {%- for tool in tools %}{% set ns.text = ns.text + '\\n' + tool | tojson %}{% endfor %}
    {%- set form = '\\nCall as <tool_call>\\n{"name": N, "arguments": A}\\n</tool_call>' %}
    {{- turn('system', ns.text + form) }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- turn('user', '<tool_response>\\n' + message.content + '\\n</tool_response>') }}
    {%- else %}
        {%- set ns = namespace(text=message.content or '') %}
        {%- for call in message.tool_calls or [] %}
            {%- set ns.text = ns.text + ('\\n' if ns.text else '') + '<tool_call>\\n{"name": "'
                + call.function.name + '", "arguments": ' + (call.function.arguments | tojson)
                + '}\\n</tool_call>' %}
        {%- endfor %}
        {{- turn(message.role, ns.text) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

QWEN3 = HERMES + """
{%- if add_generation_prompt and enable_thinking is defined and not enable_thinking %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
"""

QWEN_XML = CHATML + """
{%- if tools %}
    {%- set ns = namespace(text='') %}
    {%- for tool in tools %}
        {%- for name in tool.function.parameters.properties %}
            {%- set ns.text = ns.text + name %}
        {%- endfor %}
    {%- endfor %}
    {{- turn('system', ns.text + '<tool_call>\\n<function=F>\\n<parameter=P>\\nV\\n</parameter>') }}
{%- endif %}
{%- for message in messages %}
    {%- set ns = namespace(text=message.content or '') %}
    {%- for call in message.tool_calls or [] %}
        {%- set ns.text = ns.text + ('\\n' if ns.text else '') + '<tool_call>\\n<function='
            + call.function.name + '>\\n' %}
        {%- for key, value in call.function.arguments | items %}
            {%- set shown = value if value is string else value | tojson %}
            {%- set shown = '\\n' + shown + '\\n' %}
            {%- set ns.text = ns.text + '<parameter=' + key + '>' + shown + '</parameter>\\n' %}
        {%- endfor %}
        {%- set ns.text = ns.text + '</function>\\n</tool_call>' %}
    {%- endfor %}
    {{- turn('user' if message.role == 'tool' else message.role, ns.text) }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

LLAMA = """
{{- bos_token }}
{%- for message in messages %}
    {%- set head = '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' %}
    {%- if loop.first and tools %}
        {{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
        {{- 'Answer with {"name": function, "parameters": dictionary}.' }}
        {%- for tool in tools %}{{ tool | tojson }}{% endfor %}{{ '<|eot_id|>' }}
    {%- endif %}
    {%- if message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('This model takes single tool-calls only') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- head + '{"name": "' + call.name + '", "parameters": ' }}
        {{- (call.arguments | tojson) + '}' }}
    {%- elif message.role in ('tool', 'ipython') %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + message.content }}
    {%- else %}
        {{- head + message.content }}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

_MISTRAL_HEAD = """
{{- bos_token }}
{%- if tools %}{{ '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}
{%- for message in messages %}
    {%- for call in message.tool_calls or [] %}
        {%- if call.id is not defined or call.id | length != 9 %}
            {{- raise_exception('ids of calls have nine characters') }}
        {%- endif %}
    {%- endfor %}
    {%- if message.role == 'user' %}{{ '[INST]' + message.content + '[/INST]' }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS]' + message.tool_call_id + message.content + '[/TOOL_RESULTS]' }}
    {%- elif message.tool_calls %}
"""
_MISTRAL_TAIL = """
        {{- eos_token }}
    {%- else %}{{ (message.content or '') + eos_token }}
    {%- endif %}
{%- endfor %}
"""
MISTRAL = _MISTRAL_HEAD + """
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
            {{- ', ' if not loop.last }}
        {%- endfor %}
        {{- ']' }}
""" + _MISTRAL_TAIL
MISTRAL_ARGS = _MISTRAL_HEAD + """
        {{- message.content or '' }}
        {%- for call in message.tool_calls %}
            {{- '[TOOL_CALLS]' + call.function.name }}
            {{- '[ARGS]' + (call.function.arguments | tojson) }}
        {%- endfor %}
""" + _MISTRAL_TAIL

PLAIN_JSON = CHATML + """
{%- if tools %}
    {{- turn('system', 'Write {"name": F, "arguments": {}}. ' + (tools | tojson)) }}
{%- endif %}
{%- for message in messages %}
    {%- if message.tool_calls %}
        {%- set call = message.tool_calls[0].function %}
        {{- turn('assistant', {'name': call.name, 'arguments': call.arguments} | tojson) }}
    {%- else %}{{ turn(message.role, message.content) }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must take turns') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {{- message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""

DEEPSEEK = """
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}{{ message.content.split('</think>')[-1] + eos_token }}
    {%- else %}{{ '<|' + message.role + '|>' + message.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}
"""

LLAMA_TOKENS = (AddedToken(1001, "<|python_tag|>", True), AddedToken(1002, "<|eot_id|>", True))
MISTRAL_TOKENS = (AddedToken(1003, "[TOOL_CALLS]", True), AddedToken(1004, "[ARGS]", True))
QWEN_TOKENS = (
    AddedToken(1005, "<tool_call>", False),
    AddedToken(1006, "</tool_call>", False),
    AddedToken(1007, "<think>", False),
    AddedToken(1008, "</think>", False),
)
THINK_TOKENS = (AddedToken(1009, "[THINK]", True), AddedToken(1010, "[/THINK]", True))

WEATHER = Tool(
    name="get_weather",
    description="The weather of a city",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"type": "string", "enum": ["C", "F"]},
        },
        "required": ["city"],
    },
)
CLOCK = Tool(name="clock", description="The time", parameters={"type": "object", "properties": {}})
ANYTHING = Tool(name="anything")
TOOLS = (WEATHER, CLOCK, ANYTHING)


def asked(*calls: tuple[str, str], content: str | None = None) -> list[dict[str, Any]]:
    """A question and an assistant's turn that makes these calls."""
    return [
        {"role": "user", "content": "Well?"},
        {
            "role": "assistant",
            "content": content,
            "tool_calls": [
                {
                    "id": f"call_{i}",
                    "type": "function",
                    "function": {"arguments": arguments, "name": name},
                }
                for i, (name, arguments) in enumerate(calls)
            ],
        },
    ]
