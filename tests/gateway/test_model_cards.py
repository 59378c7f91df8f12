"""What /v1/models says of a model for people who choose one."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from firefront.core.deployment import Deployment, load_deployment
from firefront.core.errors import RequestError
from tests.e2e.served import Served
from tests.gateway.live import Live


def test_a_price_is_two_numbers_of_dollars_for_a_million_tokens() -> None:
    assert Deployment(model="m").token_prices is None
    priced = load_deployment(None, {}, model="m", price="0.05/0.2")
    assert priced.token_prices == (Decimal("0.00000005"), Decimal("0.0000002"))


@pytest.mark.parametrize("price", ["5", "0.05/", "a/b", "-1/2", "0.05/0.2/1", "1e3/2", "٣/٤", "/"])
def test_another_price_is_refused_by_name(price: str) -> None:
    with pytest.raises(RequestError, match=r"FIREFRONT_PRICE: .*such as 0\.05/0\.20"):
        load_deployment(None, {"FIREFRONT_PRICE": price}, model="m")


def test_a_fake_replica_knows_no_facts(tmp_path_factory: pytest.TempPathFactory) -> None:
    live = Live(tmp_path_factory.mktemp("cards")).start()
    try:
        answer = live.http().get("/v1/models")
        assert answer.status_code == 200, answer.text
        card = answer.json()["data"][0]
        assert card["num_parameters"] is None and card["pricing"] is None
        assert card["architecture"]["input_modalities"] == ["text"]
    finally:
        live.stop()


@pytest.fixture(scope="module")
def priced(starter_path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("priced")
    env = {"FIREFRONT_HOME": folder / "home", "FIREFRONT_PRICE": "0.05/0.20"}
    server = Served(folder, f"file:{starter_path}", **env)
    server.start()
    yield server
    server.stop()


def test_a_real_model_says_what_it_is(priced: Served) -> None:
    card = priced.http().get("/v1/models").json()["data"][0]
    assert card["num_parameters"] == 134_515_008
    assert 80e6 < card["weight_bytes"] < 110e6
    assert card["format"] == "GGUF Q4_1"
    assert card["has_chat_template"] is True
    assert card["pricing"] == {"prompt": "0.00000005", "completion": "0.0000002"}
