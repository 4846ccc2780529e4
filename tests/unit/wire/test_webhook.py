"""Signed webhooks against the example that the Standard Webhooks specification publishes."""

import pytest

from reconciler.model.errors import Refused
from reconciler.wire import webhook

SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_published_example_has_the_published_signature() -> None:
    made = webhook.headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_without_a_secret_nothing_is_signed_and_a_broken_one_is_refused() -> None:
    assert set(webhook.headers(None, "a", 1, b"")) == {"webhook-id", "webhook-timestamp"}
    assert webhook.key_of(b"plain bytes") == b"plain bytes"
    with pytest.raises(Refused, match="no base64"):
        webhook.key_of(b"whsec_?")
