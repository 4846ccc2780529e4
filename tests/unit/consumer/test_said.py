"""What producers answer: refusals become the errors that they are, and addresses lead where we deal with them."""

import json

import pytest

from reconciler.consumer.said import code_of, rebased, refusal, with_token
from reconciler.model.errors import GuardRefused, ReconcilerError, Refused, Unavailable
from reconciler.web import Reply


def answer(status: int, **body: object) -> Reply:
    return Reply(status, {}, json.dumps(body).encode(), "https://shop.example.com/quotes")


@pytest.mark.row("C-34", "C-36")
@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (answer(409, type="urn:reconciler:problem:over-max", detail="too dear"), GuardRefused, "over-cost"),
        (answer(409, type="urn:reconciler:problem:quote-expired", detail="late"), Refused, "quote-expired"),
        (answer(403, type="urn:reconciler:problem:blocked", title="This key is blocked"), Refused, "blocked"),
        (answer(429, type="urn:reconciler:problem:too-fast"), Unavailable, "too-fast"),
        (answer(503, code="ERR_PAYMENT_PENDING", description="later"), Unavailable, "ERR_PAYMENT_PENDING"),
        (Reply(500, {}, b"<html>", "https://shop.example.com/"), Unavailable, "seller-trouble"),
        (Reply(404, {}, b"[]", "https://shop.example.com/"), Refused, "seller-refused"),
    ],
)
def test_a_refusal_is_the_error_that_it_is(reply: Reply, kind: type[ReconcilerError], code: str) -> None:
    error = refusal(reply, "get a quote")
    assert (type(error), error.code) == (kind, code)
    assert error.message.startswith(f"cannot get a quote: shop.example.com answers {reply.status}")


def test_a_refusal_says_one_line_however_long_the_answer() -> None:
    told = refusal(answer(400, detail="a\nb" * 1000), "buy")
    assert "\n" not in told.message and len(told.message) < 400
    assert code_of(answer(400, code="ERR_UNDERPAID")) == "ERR_UNDERPAID"


def test_addresses() -> None:
    assert with_token("https://a/f?x=1", "t o") == "https://a/f?x=1&access=t+o"
    assert (
        with_token("https://a/f?access=old", "new") == "https://a/f?access=old" and with_token("https://a/f", "") == "https://a/f"
    )
    assert rebased("https://shop.example.com/content/a%401?access=x", "http://127.0.0.1:8402/base") == (
        "http://127.0.0.1:8402/content/a%401?access=x"
    )
