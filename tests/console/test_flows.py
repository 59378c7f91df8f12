"""What people come for: an answer, stopping it, changing it, schemas, tools, comparing, sharing."""

import gzip
import json
import re

import pytest

from firefront.gateway.console import BUILT
from tests.console.visitor import Visitor
from tests.e2e.served import Served

SHORT = "Name the capital of France."


def greedy(visitor: Visitor, max_tokens: int = 40) -> None:
    visitor.set_number("Temperature", 0)
    visitor.set_number("Longest answer", max_tokens)


def test_first_message(visitor: Visitor, live: Served) -> None:
    greedy(visitor)
    turn = visitor.ask(SHORT)
    said = live.chat(messages=[{"role": "user", "content": SHORT}], max_tokens=40, top_p=0.9)
    assert turn["content"] == said.choices[0].message.content
    figures = visitor.page.get_by_test_id("figures").inner_text()
    for name in ("First token", "Speed", "Out", "In", "Time", "Cost"):
        assert name in figures
    numbers = turn["figures"]
    assert numbers["tokens_out"] == said.usage.completion_tokens
    assert numbers["tokens_in"] == said.usage.prompt_tokens
    cost = (numbers["tokens_in"] * 0.05 + numbers["tokens_out"] * 0.2) / 1e6
    assert numbers["cost"] == pytest.approx(cost)


def test_a_message_may_come_before_the_models_are_known(visitor: Visitor) -> None:
    def late(route):  # type: ignore[no-untyped-def]
        visitor.page.wait_for_timeout(1500)
        route.continue_()

    visitor.page.evaluate("localStorage.clear()")
    visitor.page.goto("about:blank")
    visitor.page.add_init_script("try { localStorage.clear() } catch {}")
    visitor.page.route("**/v1/models", late)
    visitor.go("/")
    visitor.say(SHORT)
    visitor.page.get_by_text("Reading the prompt").wait_for()
    visitor.page.get_by_test_id("figures").wait_for()
    visitor.wait_done()
    turn = visitor.last_turn()
    assert turn["role"] == "assistant" and turn["content"] and turn["model"]


def test_a_suggestion_is_a_message(visitor: Visitor) -> None:
    visitor.set_number("Longest answer", 5)
    visitor.button("Why is the sky blue? One sentence.").click()
    visitor.answers().wait_for()
    visitor.wait_done()
    turns = visitor.kept()[0]["turns"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] and turns[1]["content"]


def test_stop(visitor: Visitor) -> None:
    visitor.set_number("Temperature", 0)
    visitor.say("Count from 1 to 2000, with a comma between numbers.")
    visitor.page.get_by_test_id("figures").wait_for()
    visitor.button("Stop").click()
    visitor.wait_done()
    turn = visitor.last_turn()
    assert turn["finish"] == "stopped" and turn["content"]
    visitor.say("And now?")  # the lane goes on
    visitor.page.get_by_test_id("figures").nth(1).wait_for()
    visitor.page.keyboard.press("Escape")
    visitor.wait_done()


def test_regenerate_and_seeds(visitor: Visitor) -> None:
    visitor.set_number("Temperature", 1.2)
    visitor.set_number("Longest answer", 24)
    visitor.set_number("Seed", 7)
    first = visitor.ask("Tell me a story.")["content"]

    def again() -> str:
        visitor.button("Regenerate").click()
        visitor.button("Stop").wait_for()
        visitor.wait_done()
        return str(visitor.last_turn()["content"])

    assert again() == first
    visitor.set_number("Seed", 8)
    assert again() != first


def test_edit_a_turn(visitor: Visitor) -> None:
    greedy(visitor)
    visitor.ask("Say hello.")
    mine = visitor.page.get_by_role("article", name="You")
    mine.hover()
    mine.get_by_role("button", name="Edit").click()
    visitor.page.get_by_label("Edit: You").fill(SHORT)
    visitor.button("Save and run").click()
    visitor.answers().wait_for()
    visitor.wait_done()
    turns = visitor.kept()[0]["turns"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert turns[0]["content"] == SHORT and "Paris" in turns[1]["content"]
    visitor.answers().hover()
    visitor.answers().get_by_role("button", name="Edit").click()
    visitor.page.get_by_label("Edit: Model").fill("Lyon, I think.")
    visitor.button("Save").click()
    assert visitor.last_turn()["content"] == "Lyon, I think."


def test_it_is_there_again_after_a_reload(visitor: Visitor) -> None:
    greedy(visitor)
    visitor.ask(SHORT)
    visitor.page.reload()
    assert visitor.answers().inner_text()
    assert visitor.page.get_by_label("Temperature", exact=True).input_value() == "0"


def test_schema(visitor: Visitor) -> None:
    greedy(visitor, 60)
    visitor.page.get_by_label("Form of the answer", exact=True).select_option("json_schema")
    visitor.page.get_by_text("Can be honoured").wait_for()
    answer = json.loads(visitor.ask("The weather in Rome is sunny.")["content"])
    assert set(answer) == {"city", "sunny"} and isinstance(answer["sunny"], bool)


def test_a_schema_that_cannot_be_honoured_says_where(visitor: Visitor) -> None:
    visitor.page.get_by_label("Form of the answer", exact=True).select_option("json_schema")
    visitor.write("JSON schema", '{"type": "array", "uniqueItems": true}')
    visitor.page.get_by_text("uniqueItems cannot be enforced").wait_for()
    visitor.write("JSON schema", '{"type": ')
    visitor.page.get_by_text("is not JSON").first.wait_for()


def test_choices(visitor: Visitor) -> None:
    greedy(visitor)
    visitor.page.get_by_label("Form of the answer", exact=True).select_option("choice")
    visitor.page.get_by_label("Choices, one a line").fill("Paris\nLyon")
    visitor.page.get_by_text("Can be honoured").wait_for()
    assert visitor.ask(SHORT)["content"] in ("Paris", "Lyon")


def test_tools(visitor: Visitor) -> None:
    greedy(visitor, 60)
    visitor.button("Add an example").click()
    visitor.page.get_by_label("Whether a tool is called").select_option("required")
    turn = visitor.ask("What is the weather in Rome?")
    call = turn["calls"][0]
    assert call["name"] == "get_weather" and "city" in json.loads(call["arguments"])
    visitor.page.get_by_label("Whether a tool is called").select_option("none")
    results = visitor.page.get_by_label("What it gives back")
    for index in range(results.count()):
        results.nth(index).fill('{"celsius": 21}')
    visitor.page.get_by_role("button", name="Send result").click()
    visitor.answers().nth(1).wait_for()
    visitor.wait_done()
    turns = visitor.kept()[0]["turns"]
    assert turns[2]["callId"] == call["id"] and turns[2]["role"] == "tool"
    assert turns[-1]["role"] == "assistant" and turns[-1]["content"]


def test_a_tools_schema_is_checked(visitor: Visitor) -> None:
    visitor.button("Add an example").click()
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "strin"}}}}
    visitor.write("Tools", json.dumps([tool]))
    visitor.page.get_by_text("f: /properties/a").wait_for()


def test_an_expected_answer_changes_nothing(visitor: Visitor) -> None:
    greedy(visitor)
    visitor.page.get_by_text("More parameters").click()
    said = visitor.ask(SHORT)["content"]
    visitor.page.get_by_label("Expected answer", exact=True).fill(said)
    visitor.page.get_by_label("Thinking", exact=True).select_option("none")
    visitor.button("New chat").click()
    assert visitor.ask(SHORT)["content"] == said


def test_logprobs(visitor: Visitor) -> None:
    greedy(visitor, 8)
    visitor.page.get_by_label("Show how sure the model is", exact=True).select_option("5")
    turn = visitor.ask(SHORT)
    assert len(turn["logprobs"]) == turn["figures"]["tokens_out"]
    visitor.answers().locator("[data-token='0']").hover()
    shown = visitor.answers().locator("output")
    assert shown.locator("li").count() == 5 and "chosen" in shown.inner_text()


def test_compare(visitor: Visitor) -> None:
    visitor.go("/compare")
    visitor.button("Add a column").click()
    for number in (1, 2, 3):
        visitor.button(f"Settings of Column {number}").click()
        visitor.set_number("Temperature", 0)
        visitor.set_number("Longest answer", 10 * number)
        visitor.button("Close").click()
    visitor.say(SHORT)
    visitor.answers().nth(2).wait_for()
    visitor.wait_done()
    lanes = visitor.kept("compare")
    texts = [lane["turns"][-1]["content"] for lane in lanes]
    assert len(texts) == 3 and texts[2].startswith(texts[1]) and texts[1].startswith(texts[0])
    assert visitor.page.get_by_test_id("figures").count() == 3
    assert visitor.page.locator("canvas").count() == 1
    visitor.button("Code of Column 2").click()
    assert "max_tokens=20" in visitor.page.get_by_role("tabpanel").inner_text()
    visitor.button("Close").click()
    visitor.button("Remove Column 3").click()
    assert visitor.page.get_by_role("region", name=re.compile("^Column")).count() == 2


def test_completion(visitor: Visitor, live: Served) -> None:
    visitor.go("/completion")
    greedy(visitor, 12)
    visitor.page.get_by_label("Text to go on with").fill("The capital of France is")
    visitor.button("Complete").click()
    visitor.answers().wait_for()
    visitor.wait_done()
    said = live.complete("The capital of France is", max_tokens=12, top_p=0.9)
    assert visitor.last_turn("completion")["content"] == said.choices[0].text
    visitor.button("Take it into the text").click()
    text = visitor.page.get_by_label("Text to go on with").input_value()
    assert text == "The capital of France is" + said.choices[0].text


def test_share(visitor: Visitor) -> None:
    greedy(visitor, 5)
    visitor.ask(SHORT)
    visitor.button("Copy a link to this").click()
    visitor.page.get_by_text("The link is copied").wait_for()
    link = visitor.page.evaluate("navigator.clipboard.readText()")
    said = visitor.last_turn()["content"]
    visitor.page.evaluate("localStorage.clear()")
    visitor.page.goto("about:blank")
    sent = []
    visitor.page.on("request", lambda request: sent.append(request.url))
    visitor.page.goto(link)
    visitor.page.get_by_text("Opened from a link").wait_for()
    assert visitor.last_turn()["content"] == said
    assert "#" not in visitor.page.url and not any("share=" in url for url in sent[1:])
    assert not any("/v1/chat" in url for url in sent)


def test_a_damaged_link_says_so(visitor: Visitor) -> None:
    visitor.go("/#share=AAAA")
    visitor.page.get_by_text("This link is damaged").wait_for()


def test_an_error_names_the_field_and_can_be_tried_again(visitor: Visitor) -> None:
    visitor.expected = ("400",)
    visitor.page.get_by_label("Form of the answer", exact=True).select_option("regex")
    visitor.page.get_by_label("Expression").fill("(")
    visitor.say(SHORT)
    alert = visitor.page.get_by_role("alert").filter(has_text="Try again")
    alert.wait_for()
    assert "Request req_" in alert.inner_text()
    visitor.page.get_by_label("Form of the answer", exact=True).select_option("text")
    visitor.set_number("Longest answer", 5)
    visitor.say(SHORT)
    visitor.answers().wait_for()
    visitor.wait_done()


def test_the_server_goes_away(visitor: Visitor) -> None:
    visitor.expected = ("Failed to load resource",)
    visitor.page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
    visitor.say(SHORT)
    alerts = visitor.page.get_by_role("alert")
    alerts.filter(has_text="Is the server still running?").first.wait_for()
    visitor.page.unroute("**/v1/**")
    visitor.set_number("Longest answer", 5)
    visitor.button("Try again").click()
    visitor.answers().wait_for()
    visitor.wait_done()


def test_a_key_is_asked_for_and_sent(visitor: Visitor) -> None:
    visitor.expected = ("401",)
    seen = []

    def guard(route):  # type: ignore[no-untyped-def]
        key = route.request.headers.get("authorization")
        seen.append(key)
        if key == "Bearer ff-secret":
            route.continue_()
        else:
            body = {"error": {"message": "no key", "code": "invalid_api_key"}}
            route.fulfill(status=401, json=body)

    visitor.page.route("**/v1/**", guard)
    visitor.page.reload()
    visitor.page.get_by_label("API key").fill("ff-secret")
    visitor.button("Use this key").click()
    visitor.set_number("Longest answer", 5)
    visitor.ask(SHORT)
    assert seen[-1] == "Bearer ff-secret"
    visitor.button("Get the code").click()
    code = visitor.page.get_by_role("tabpanel").inner_text()
    assert "FIREFRONT_API_KEY" in code and "ff-secret" not in code
    kept = visitor.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert "ff-secret" not in kept


def test_palette(visitor: Visitor) -> None:
    visitor.page.keyboard.press("Control+k")
    visitor.page.get_by_role("combobox", name="Search commands").fill("go compare")
    visitor.page.keyboard.press("Enter")
    visitor.page.get_by_role("heading", name="Compare").wait_for()
    assert visitor.path() == "/compare"
    visitor.page.keyboard.press("Control+k")
    visitor.page.get_by_role("combobox", name="Search commands").fill("dark")
    visitor.page.keyboard.press("Enter")
    assert visitor.page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_images_are_attached_where_a_model_takes_them(visitor: Visitor) -> None:
    def with_images(route):  # type: ignore[no-untyped-def]
        answer = route.fetch().json()
        answer["data"][0]["architecture"]["input_modalities"] = ["text", "image"]
        route.fulfill(json=answer)

    sent = []

    def answer(route):  # type: ignore[no-untyped-def]
        sent.append(route.request.post_data_json)
        route.fulfill(body='data: {"choices":[{"delta":{"content":"A dot."}}]}\n\ndata: [DONE]\n\n')

    assert visitor.button("Attach images").count() == 0
    visitor.page.route("**/v1/models", with_images)
    visitor.page.route("**/v1/chat/completions", answer)
    visitor.page.reload()
    visitor.button("Attach images").wait_for()
    dot = (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\10\6\0\0\0\x1f\x15\xc4\x89\0\0\0\nIDATx\x9cc"
        b"\0\1\0\0\5\0\1\r\n-\xb4\0\0\0\0IEND\xaeB`\x82"
    )
    file = {"name": "dot.png", "mimeType": "image/png", "buffer": dot}
    visitor.page.locator("input[type=file]").set_input_files([file])  # type: ignore[list-item]
    visitor.page.get_by_alt_text("attached 1").wait_for()
    visitor.ask("What is this?")
    part = sent[0]["messages"][0]["content"][1]
    assert part["type"] == "image_url"
    assert part["image_url"]["url"].startswith("data:image/png;base64,")


def test_the_first_load_is_at_most_250_kb(visitor: Visitor) -> None:
    names = visitor.page.evaluate(
        "performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)"
    )
    scripts = {name for name in names if name.endswith((".js", ".css"))}
    assert scripts
    sizes = {name: len(gzip.compress((BUILT / name[1:]).read_bytes())) for name in scripts}
    assert sum(sizes.values()) <= 250_000, sizes
