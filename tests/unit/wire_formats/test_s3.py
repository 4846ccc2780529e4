"""Signatures against the examples that the interface's own documentation gives, and answers of stores, good and bad."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import s3

# The documented examples all use this key, this bucket and this moment.
KEY = s3.Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
BUCKET = "https://examplebucket.s3.amazonaws.com"
MOMENT = datetime(2013, 5, 24, tzinfo=UTC)
WELCOME = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@pytest.mark.parametrize(
    ("method", "name", "query", "headers", "payload", "signature"),
    [
        (
            "GET",
            "test.txt",
            {},
            {"range": "bytes=0-9"},
            s3.EMPTY,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "test$file.text",
            {},
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            WELCOME,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "", {"lifecycle": ""}, {}, s3.EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "",
            {"max-keys": "2", "prefix": "J"},
            {},
            s3.EMPTY,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_requests_are_signed_as_documented(
    method: str, name: str, query: dict[str, str], headers: dict[str, str], payload: str, signature: str
) -> None:
    told = s3.signed(method, s3.address(BUCKET, name, query), headers, payload, KEY, MOMENT)
    assert told["authorization"].endswith(f"Signature={signature}")
    assert told["host"] == "examplebucket.s3.amazonaws.com"
    assert headers.items() <= told.items()


@pytest.mark.parametrize(
    ("bucket", "name", "url"),
    [
        ("https://s3.example.org/shop", "a b/é+", "https://s3.example.org/shop/a%20b/%C3%A9%2B"),
        ("https://s3.example.org/shop/", "", "https://s3.example.org/shop"),
        ("https://shop.s3.example.org", "", "https://shop.s3.example.org/"),
        ("https://shop.s3.example.org:9000/", "x", "https://shop.s3.example.org:9000/x"),
    ],
)
def test_both_styles_of_address(bucket: str, name: str, url: str) -> None:
    assert s3.address(bucket, name) == url


def test_a_query_is_sorted_and_encoded() -> None:
    assert s3.address(BUCKET, "", {"uploads": "", "prefix": "a/b c"}).endswith("/?prefix=a%2Fb%20c&uploads=")


@given(st.integers(0, 5 * 2**40), st.integers(2**10, 2**32))
@settings(max_examples=100, deadline=None)
def test_parts_cover_a_file_and_are_not_too_many(size: int, wanted: int) -> None:
    part = s3.part_size(size, wanted)
    assert part >= wanted
    assert -(-size // part) <= s3.MAX_PARTS


@given(st.integers(0, 10_000), st.integers(1, 3_000))
@settings(max_examples=100, deadline=None)
def test_spans_follow_each_other(size: int, part: int) -> None:
    cut = s3.spans(size, part)
    assert [start for start, _ in cut[1:]] == [stop for _, stop in cut[:-1]]
    assert (cut[0][0], cut[-1][1]) == (0, size)
    assert all(stop - start == part for start, stop in cut[:-1])
    listed = [s3.Listed(number, stop - start, "x") for number, (start, stop) in enumerate(cut, 1)]
    assert s3.fits(listed, cut)
    assert not s3.fits([s3.Listed(len(cut) + 1, part, "x")], cut)
    assert not s3.fits([s3.Listed(1, cut[0][1] + 1, "x")], cut)


def test_parts_are_read_page_by_page() -> None:
    part = "<Part><PartNumber>{}</PartNumber><ETag>&quot;{}&quot;</ETag><Size>5</Size></Part>"
    page = f"<ListPartsResult {NS}><IsTruncated>true</IsTruncated>{part.format(1, 'a')}{part.format(2, 'b')}</ListPartsResult>"
    assert s3.parse_parts(page.encode()) == ([s3.Listed(1, 5, "a"), s3.Listed(2, 5, "b")], "2")
    last = f"<ListPartsResult><IsTruncated>false</IsTruncated>{part.format(3, 'c')}</ListPartsResult>"
    assert s3.parse_parts(last.encode()) == ([s3.Listed(3, 5, "c")], "")
    assert s3.parse_parts(f"<ListPartsResult {NS}/>".encode()) == ([], "")


def test_unfinished_uploads_of_an_object_are_the_newest_first_and_no_others() -> None:
    upload = "<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiated>{}</Initiated></Upload>"
    told = [("k", "old", "2026-01-01"), ("kk", "other", "2026-03-01"), ("k", "new", "2026-02-01")]
    body = f"<ListMultipartUploadsResult {NS}>{''.join(upload.format(*one) for one in told)}</ListMultipartUploadsResult>"
    assert s3.parse_uploads(body.encode(), "k") == ["new", "old"]


def test_failures_are_told_from_answers() -> None:
    failure = s3.parse_failure(b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please\n wait</Message></Error>")
    assert failure == s3.Failure("SlowDown", "Please wait")
    assert s3.parse_failure(b"<CompleteMultipartUploadResult/>") is None
    assert s3.parse_failure(b"upstream broke") is None


def test_etags_are_written_back_in_order() -> None:
    body = s3.completion(["a", "b<"])
    assert b'<PartNumber>1</PartNumber><ETag>"a"</ETag>' in body
    assert b'<PartNumber>2</PartNumber><ETag>"b&lt;"</ETag>' in body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<ListPartsResult",
        b"<Other/>",
        b"<!DOCTYPE x><ListPartsResult/>",
        b"<ListPartsResult><Part><PartNumber>x</PartNumber><Size>1</Size><ETag>a</ETag></Part></ListPartsResult>",
        b"<ListPartsResult><Part><PartNumber>1</PartNumber><Size>-1</Size><ETag>a</ETag></Part></ListPartsResult>",
        b"<ListPartsResult><Part><PartNumber>1</PartNumber><Size>1</Size></Part></ListPartsResult>",
    ],
)
def test_nonsense_is_told(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        s3.parse_parts(body)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_readers_raise_nothing_else(body: bytes) -> None:
    for read in (s3.parse_parts, s3.parse_started, s3.parse_failure, lambda text: s3.parse_uploads(text, "k")):
        try:
            read(b"<" + body)
        except RemoteProtocolError:
            pass
