# SPDX-License-Identifier: Apache-2.0
"""Chat templates in the manner of each model family, and the conversations to render with them. Written for this
test; used by make_text_golden.py."""

CHATML = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message may come first #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | string | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "Functions:\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {%- if message.content is string %}{{- message.content | trim }}{%- else %}{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{%- endif %}
        {{- '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One tool call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

QWEN25 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a shop assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a shop assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

QWEN3 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' in message %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}{{'<｜Assistant｜><｜tool▁calls▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments']|tojson + '\\n' + '```'}}{%- set ns.is_first = true -%}{%- else %}{{'\\n' + tool['function']['name']}}{%- endif %}{%- endfor %}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' not in message %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<｜tool▁outputs▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- set ns.is_output_first = false %}{%- else %}{{'\\n' + message['content']}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"""

PHI = """{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' ~ message.role ~ '|>' ~ message['content'] ~ '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"""

COMMAND_R = """{{ bos_token }}{%- macro document_turn(documents) -%}
<results>
{% for doc in documents %}{{ loop.index0 }}. {{ doc.title | default('untitled') | title }}: {{ doc['text'] | replace('\\n', ' ') | truncate_free if false else doc['text'] | replace('\\n', ' ') }}
{% endfor %}</results>
{%- endmacro -%}
{%- macro json_to_python_type(param_name, json_spec) -%}
{%- set types = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"} -%}
{%- if json_spec.type in types -%}{{ types[json_spec.type] }}{%- elif json_spec.type == "array" -%}{{ "List[" + json_to_python_type(param_name, json_spec['items']) + "]" }}{%- elif json_spec.type == "object" -%}{{ "Dict" }}{%- else -%}{{ "Any" }}{%- endif -%}
{%- endmacro -%}
{%- if messages[0]['role'] == 'system' -%}{% set system_message = messages[0]['content'] %}{% set rest = messages[1:] %}{%- else -%}{% set system_message = false %}{% set rest = messages %}{%- endif -%}
{% if system_message != false %}{{ '<|SYSTEM|>' + system_message + '<|END|>' }}{% endif %}
{%- if tools %}{% for tool in tools %}def {{ tool.function.name }}({% for name, spec in tool.function.parameters.properties.items() %}{{ name }}: {{ json_to_python_type(name, spec) }}{% if not name in tool.function.parameters.get('required', []) %} = None{% endif %}{{ ", " if not loop.last else "" }}{% endfor %})
{{ tool.function.description | indent(4, true) }}
{% endfor %}{% endif %}
{%- if documents %}{{ document_turn(documents) }}{% endif %}
{%- for message in rest -%}{% set content = message['content'] %}{%- if message['role'] == 'user' -%}{{ '<|USER|>' + content.strip() + '<|END|>' }}{%- elif message['role'] == 'assistant' -%}{{ '<|BOT|>' + (content or '').strip() + '<|END|>' }}{%- else -%}{{ '<|OTHER|>' ~ content }}{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|BOT|>' }}{%- endif -%}""".replace(" | truncate_free if false else doc['text'] | replace('\\n', ' ')", "")

GLM = """[gMASK]<sop>
{%- if tools -%}
<|system|>
# Tools
<tools>
{% for tool in tools %}
{{ tool | tojson(ensure_ascii=False) }}
{% endfor %}
</tools>
{%- endif -%}
{%- macro visible_text(content) -%}
    {%- if content is string -%}
        {{- content }}
    {%- elif content is iterable and content is not mapping -%}
        {%- for item in content -%}
            {%- if item is mapping and item.type == 'text' -%}
                {{- item.text }}
            {%- elif item is string -%}
                {{- item }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{- content }}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last_user_index=-1) %}
{%- for m in messages %}
    {%- if m.role == 'user' %}
        {% set ns.last_user_index = loop.index0 -%}
    {%- endif %}
{%- endfor %}
{% for m in messages %}
{%- if m.role == 'user' -%}<|user|>
{{ visible_text(m.content) }}
{{- '/nothink' if (enable_thinking is defined and not enable_thinking and not visible_text(m.content).endswith("/nothink")) else '' -}}
{%- elif m.role == 'assistant' -%}
<|assistant|>
{%- set reasoning_content = '' %}
{%- set content = visible_text(m.content) %}
{%- if m.reasoning_content is string %}
    {%- set reasoning_content = m.reasoning_content %}
{%- endif %}
{%- if loop.index0 > ns.last_user_index and reasoning_content -%}
{{ '\\n<think>' + reasoning_content.strip() +  '</think>'}}
{%- else -%}
{{ '\\n<think></think>' }}
{%- endif -%}
{%- if content.strip() -%}
{{ '\\n' + content.strip() }}
{%- endif -%}
{% if m.tool_calls %}
{% for tc in m.tool_calls %}
{%- if tc.function %}
    {%- set tc = tc.function %}
{%- endif %}
{{ '\\n<tool_call>' + tc.name }}
{% set _args = tc.arguments %}
{% for k, v in _args.items() %}
<arg_key>{{ k }}</arg_key>
<arg_value>{{ v | tojson(ensure_ascii=False) if v is not string else v }}</arg_value>
{% endfor %}
</tool_call>{% endfor %}
{% endif %}
{%- elif m.role == 'tool' -%}
{%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
    {{- '<|observation|>' }}
{%- endif %}
{{- '\\n<tool_response>\\n' }}
{{- m.content }}
{{- '\\n</tool_response>' }}
{%- elif m.role == 'system' -%}
<|system|>
{{ visible_text(m.content) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    <|assistant|>{{- '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' -}}
{%- endif -%}
"""

HERMES = """{%- macro render_schema(spec, depth=0) -%}
{%- if spec is mapping and spec.properties is defined -%}
{ {% for key, value in spec.properties | dictsort %}{{ "  " * depth }}{{ key }}: {{ render_schema(value, depth=depth + 1) }}{% if not loop.last %}; {% endif %}{% endfor %} }
{%- elif spec is mapping and spec.enum is defined -%}{{ spec.enum | map('tojson') | join(' | ') }}
{%- else -%}{{ spec.type | default('any', true) | upper }}{%- endif -%}
{%- endmacro -%}
{{ bos_token }}
{%- set user_count = messages | selectattr('role', 'eq', 'user') | list | length %}
{%- if tools and user_count > 0 %}
<|im_start|>system
Tools ({{ tools | length }}): {{ tools | map(attribute='function.name') | join(', ') }}
{% for tool in tools %}
{{ loop.index }}/{{ loop.length }} {{ tool.function.name }} {{ render_schema(tool.function.parameters) }}
{{ {"type": "function", "function": tool.function} | tojson(sort_keys=true) }}
{{ tool | tojson(indent=2) }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages if message.role != 'developer' %}
{% generation %}<|im_start|>{{ message.role | capitalize }}{{ ' (last)' if loop.last }}
{% if message.content is string %}{{ message.content }}{% else %}{{ message.content | default([], true) | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('\\n') }}{% endif %}<|im_end|>
{% endgeneration %}
{%- endfor %}
{%- call(x) wrap_free if false %}{% endcall %}
{% if add_generation_prompt %}<|im_start|>Assistant
{% endif %}""".replace("{%- call(x) wrap_free if false %}{% endcall %}\n", "")

ZOO = """{# everything at once #}
{%- macro field(name, value='none', *varargs_free) -%}[{{ name }}={{ value }}]{%- endmacro -%}
{%- macro box(title) -%}<{{ title }}>{{ caller(title ~ '!') }}</{{ title }}>{%- endmacro -%}
{% set x, y = 7, -3 %}{{ x // y }} {{ x % y }} {{ x / 2 }} {{ 2 ** 10 }} {{ -x }} {{ 1.5e3 }} {{ 10 | round(1) }} {{ 3.14159 | round(2) }}
{{ 'a' 'b' ~ 1 ~ none ~ true ~ 1.0 }} {{ [1, 'two', 3.0, none, true, {'k': 'v'}, (1,), "it's"] }}
{{ "abcdef"[1:4] }} {{ "héllo"[::-1] }} {{ [1,2,3,4][-2:] }} {{ 'x' in 'xyz' }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ not false and true or false }}
{% for k, v in {'b': 1, 'A': 2, 'c': 0} | dictsort %}{{ k }}{{ v }}{% endfor %} {{ [3,1,2] | sort(reverse=true) | join('-') }} {{ ['b','A','c'] | sort | first }} {{ [1,2,3] | sum }} {{ [1,2,2,3,1] | unique | list }}
{{ '  pad ' | trim }}|{{ ' a,b ,c'.split(',') }}|{{ 'a b  c'.split() }}|{{ 'one two three'.split(' ', 1) }}|{{ 'x' * 3 }}|{{ 'Title case here' | title }}|{{ 'ABC' | lower }}|{{ 'straße' | upper }}
{{ field('n') }}{{ field('n', 5) }}{{ field(value=6, name='m') }}
{% call(t) box('b') %}inside {{ t }}{% endcall %}
{% filter upper %}filtered {{ x }}{% endfilter %}
{% set block %}captured {{ y }}{% endset %}{{ block | length }} {{ block }}
{% with a = 1, b = x %}{{ a + b }}{% endwith %}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 5 %}{% break %}{% endif %}{{ i }}{{ loop.cycle('.', ':') }}{% endfor %}
{% for i in [] %}x{% else %}empty{% endfor %} {% for c in 'hé' %}<{{ c }}>{% endfor %}
{% raw %}{{ raw }} {% if %}{% endraw %}
   {%+ if true %}kept{% endif %}   {% if true -%}   tight   {%- endif %}
{{ messages | length }} {{ messages | map(attribute='role') | list }} {{ messages | selectattr('content', 'defined') | list | length }} {{ messages[-1].content | tojson }} {{ missing is defined }} {{ missing | default('dflt') }} {{ (missing or 'alt') }}
{{ 5 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 'A' is upper }} {{ none is none }} {{ 1 is number }} {{ [] is sequence }} {{ {} is mapping }} {{ 1.0 == 1 }} {{ 'a' < 'b' }} {{ 3 is in [1,2,3] }}
{{ {'a': 1}.get('b', 'no') }} {{ {'a': 1}.items() | list }} {{ 'abc'.replace('b', 'BB') }} {{ 'abcabc'.find('c') }} {{ 'aXbX'.rstrip('X') }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'a\\nb\\n'.splitlines() }} {{ '7' | int + 1 }} {{ '2.5' | float }} {{ 'x' | int(9) }}
{{ 1e16 }} {{ 1e-5 }} {{ 123456789.125 }} {{ 0.1 }} {{ 100.0 }} {{ {'é': 'ü"\\n\\u2028', 'n': 1.0, 't': [true, none]} | tojson }} {{ {'a': [], 'b': {}, 'c': [1, {'d': 2}]} | tojson(indent=2) }} {{ [1, 2] | tojson(separators=(',', ':')) }} {{ 'é' | tojson(ensure_ascii=true) }}
{{ 'line one\\nline two\\n\\nlast' | indent(2) }}|{{ 'l1\\nl2' | indent('> ', first=true) }}|{{ namespace(a=1).a }} {{ dict(a=1, b=2) }} {{ [1,2,3] | reverse | list }} {{ 'abc' | reverse }} {{ [[1,2],[3]] | map('length') | list }} {{ ['a','b'] | map('upper') | join }} {{ [1,0,2] | select | list }} {{ [1,2,3,4] | reject('odd') | list }} {{ [4,2,9] | max }} {{ [4,2,9] | min }} {{ loop is defined }}
{% for m in messages %}{{ loop.index }}/{{ loop.revindex }}{% if loop.previtem is defined %}<{{ loop.previtem.role }}{% endif %}{% if loop.changed(m.role) %}*{% endif %}{{ ' ' if not loop.last }}{% endfor %}
{{ '\\t\\x41\\u00e9\\'"' }} {{ "tab\\there" }} {{ messages | tojson }}
""".replace(", *varargs_free", "")

CODER = """{% macro render_extra_keys(json_dict, handled_keys) %}
    {%- if json_dict is mapping %}
        {%- for json_key in json_dict.keys() | reject("in", handled_keys) %}
            {%- if json_dict[json_key] is string %}
                {{-'\\n<' ~ json_key ~ '>' ~ json_dict[json_key] ~ '</' ~ json_key ~ '>' }}
            {%- else %}
                {{- '\\n<' ~ json_key ~ '>' ~ (json_dict[json_key] | tojson | safe) ~ '</' ~ json_key ~ '>' }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- if tools is iterable and tools | length > 0 %}
{%- for tool in tools %}{%- set tool = tool.function %}<function><name>{{ tool.name }}</name>
{{- render_extra_keys(tool.parameters, ['type', 'required']) }}
{%- for param_name, param_fields in tool.parameters.properties|items %}{{ '\\n<p>' ~ param_name }}{{ render_extra_keys(param_fields, ['name', 'type', 'description', 'enum']) }}{%- endfor %}</function>
{% endfor %}{%- endif %}
{%- for message in messages %}
{%- if message.tool_calls is defined and message.tool_calls is iterable and message.tool_calls | length > 0 %}
{%- for tool_call in message.tool_calls %}{%- set tool_call = tool_call.function %}
{{- '<tool_call>\\n<function=' + tool_call.name + '>\\n' }}
{%- for args_name, args_value in tool_call.arguments|items %}
{{- '<parameter=' + args_name + '>\\n' }}
{%- set args_value = args_value | tojson | safe if args_value is mapping or (args_value is sequence and args_value is not string) else args_value | string %}
{{- args_value }}
{{- '\\n</parameter>\\n' }}
{%- endfor %}{{ '</function>' + ("<&>" | safe) + "'<\\">" }}{%- endfor %}
{%- else %}{{ '<|im_start|>' + message.role }}{% if message.content is string and message.content | trim | length > 0 %}{{ '\\n' + message.content | trim + '\\n' }}{% endif %}{{ loop.previtem.role | default('none') if loop.previtem }}{% if loop.nextitem and loop.nextitem.role == 'tool' %}>{% endif %}
{%- endif %}
{%- endfor %}"""

TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "qwen25": QWEN25, "qwen3": QWEN3, "mistral": MISTRAL, "gemma": GEMMA,
             "deepseek": DEEPSEEK, "phi": PHI, "command_r": COMMAND_R, "glm": GLM, "hermes": HERMES, "coder": CODER, "zoo": ZOO}

TOOLS = [
    {"type": "function", "function": {"name": "get_price", "description": "Price of an item.\nIn euros.", "parameters": {
        "type": "object", "properties": {"item": {"type": "string", "description": "Item’s name <b>&amp;</b>"},
                                         "count": {"type": "integer", "minimum": 1},
                                         "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["item"]}}},
    {"type": "function", "function": {"name": "ship", "description": "Ships.", "parameters": {
        "type": "object", "properties": {"way": {"type": "string", "enum": ["air", "sea"]},
                                         "insured": {"type": "boolean"}, "weight": {"type": "number"}}}}},
]
CALL = {"id": "abc123def", "type": "function",
        "function": {"name": "get_price", "arguments": {"item": "tea “pot”", "count": 2, "ratio": 0.5, "none": None}}}


def u(text):
    return {"role": "user", "content": text}


def a(text, **more):
    return dict({"role": "assistant", "content": text}, **more)


def s(text):
    return {"role": "system", "content": text}


CONVERSATIONS = [
    [u("Hello")],
    [s("Be brief."), u("Hello")],
    [u("Hi"), a("Hello! How can I help?"), u("Recommend a kettle.")],
    [s("You are terse.\n"), u("  spaced  "), a("\n\nanswer\n"), u("tab\tand\nlines\n\n")],
    [u("What does tea cost?"), a("", tool_calls=[CALL]), {"role": "tool", "content": "12.50", "tool_call_id": "abc123def"}, a("12.50 euros.")],
    [s("S"), u("Q"), a(None, tool_calls=[CALL, CALL]), {"role": "tool", "content": "1", "tool_call_id": "abc123def"},
     {"role": "tool", "content": "{\"x\": 2}", "tool_call_id": "abc123def"}],
    [u("Think."), a("<think>\nhmm\n</think>\n\nDone.")],
    [u("Think."), a("Done.", reasoning_content="I thought about it.")],
    [u("Think."), a("<think>a</think>b"), u("Again"), a("c", thinking="deep")],
    [u([{"type": "text", "text": "part one"}, {"type": "text", "text": " part two"}])],
    [s([{"type": "text", "text": "system part"}]), u([{"type": "image"}, {"type": "text", "text": "  what is it? "}])],
    [u("Grüße 你好 🙂 \u202eabc\u202c \"quoted\" 'single' <tag> & \\ back"), a("{\"json\": [1, 2]}")],
    [u("{{ not a template }} {% nor this %} {# nor #}")],
    [u("")],
    [a("I begin."), u("Why?")],
    [u("one"), u("two")],
    [s("first"), s("second"), u("x")],
    [u("x"), a("partial answer   ")],
    [u("x"), a("the answer is ")],
    [{"role": "developer", "content": "d"}, u("<tool_response>fake</tool_response>")],
]
DOCUMENTS = [{"title": "tea pots", "text": "A pot\nfor tea."}, {"text": "no title"}]
OPTIONS = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False, "tools": TOOLS},
    {"add_generation_prompt": True, "tools": TOOLS, "documents": DOCUMENTS},
    {"add_generation_prompt": True, "kwargs": {"enable_thinking": False, "date_string": "01 Jan 2025"}},
    {"continue_final_message": True},
]
